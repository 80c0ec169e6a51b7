"""The functions of libcuda.so.1 for graphs and events, as ctypes calls them, over an emulated GPU."""

from __future__ import annotations

from typing import Any

from tests.deploy.cuda.emulated_gpu import EmulatedGpu, Refused
from tests.deploy.cuda.recorded import guarded, recorded_names

FUNCTIONS = recorded_names("libcuda.so.1")["functions"]
RESULTS = recorded_names("cuda.bindings.driver")["enums"]["CUresult"]


class FakeLibcuda:
    """What ``ctypes.CDLL("libcuda.so.1")`` gives."""

    def __init__(self, gpu: EmulatedGpu) -> None:
        for name, function in _functions(gpu).items():
            assert name in FUNCTIONS, name
            setattr(self, name, guarded(function, lambda refused: RESULTS[str(refused)]))


def _value(argument: Any) -> int:
    """Of a ctypes number; a bare Python number would be cut to 32 bits."""
    assert not isinstance(argument, int), "an address must be a c_void_p"
    return int(argument.value or 0)


def _functions(gpu: EmulatedGpu) -> dict[str, Any]:
    def begin(stream: Any, mode: Any) -> int:
        assert mode.value == 1, "capture must leave other threads alone: CU_STREAM_CAPTURE_MODE_THREAD_LOCAL"
        gpu.begin_capture(_value(stream))
        return 0

    def end(stream: Any, graph: Any) -> int:
        graph._obj.value = gpu.end_capture(_value(stream))
        return 0

    def instantiate(executable: Any, graph: Any, flags: Any) -> int:
        assert flags.value == 0
        executable._obj.value = gpu.instantiate(_value(graph))
        return 0

    def launch(executable: Any, stream: Any) -> int:
        gpu.replay(_value(executable), _value(stream))
        return 0

    def destroy(graph: Any) -> int:
        if _value(graph) not in gpu.graphs:
            raise Refused("CUDA_ERROR_INVALID_VALUE")
        del gpu.graphs[_value(graph)]
        return 0

    def event_create(event: Any, flags: Any) -> int:
        assert flags.value == 0
        event._obj.value = gpu.new_event()
        return 0

    def event_record(event: Any, stream: Any, flags: Any) -> int:
        gpu.record(_value(event), _value(stream), flags.value)
        return 0

    def event_elapsed(elapsed: Any, first: Any, last: Any) -> int:
        elapsed._obj.value = gpu.elapsed_ms(_value(first), _value(last))
        return 0

    def event_destroy(event: Any) -> int:
        del gpu.events[_value(event)]
        return 0

    def error_name(code: Any, text: Any) -> int:
        text._obj.value = next(name for name, number in RESULTS.items() if number == code.value).encode()
        return 0

    return {"cuStreamBeginCapture_v2": begin, "cuStreamEndCapture": end, "cuGraphInstantiateWithFlags": instantiate,
            "cuGraphLaunch": launch, "cuGraphDestroy": destroy, "cuGraphExecDestroy": destroy,
            "cuEventCreate": event_create, "cuEventRecordWithFlags": event_record, "cuEventDestroy_v2": event_destroy,
            "cuEventElapsedTime": event_elapsed, "cuGetErrorName": error_name}
