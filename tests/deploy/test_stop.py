"""The user's wish to stop: it interrupts what is opened, waits for the frame in hand, and lets files be closed."""

from __future__ import annotations

import signal

import pytest

from deploy.runtime.loop.loop import Stop, stopped_by_signals

BOTH = pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])


@BOTH
def test_the_first_signal_asks_and_the_second_interrupts(how: signal.Signals) -> None:
    with stopped_by_signals() as stop, pytest.raises(KeyboardInterrupt), stop.at_the_next_frame():
        assert not stop.asked
        signal.raise_signal(how)
        assert stop.asked
        signal.raise_signal(how)


@BOTH
def test_no_signal_interrupts_the_closing_of_files(how: signal.Signals) -> None:
    with stopped_by_signals() as stop:
        with stop.at_the_next_frame():
            pass
        for _ in range(3):
            signal.raise_signal(how)


@BOTH
def test_a_signal_interrupts_the_opening_once(how: signal.Signals) -> None:
    closed = []
    with pytest.raises(KeyboardInterrupt), stopped_by_signals():
        try:
            signal.raise_signal(how)
        finally:
            signal.raise_signal(how)
            closed.append(True)
    assert closed


def test_an_import_that_was_interrupted_is_an_interruption() -> None:
    """Modules written in C say "initialization failed" instead."""
    with pytest.raises(KeyboardInterrupt), stopped_by_signals():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as error:
            raise ImportError("initialization failed") from error


def test_an_import_that_fails_by_itself_stays_what_it_is() -> None:
    with pytest.raises(ImportError, match="no module"), stopped_by_signals():
        raise ImportError("no module")


def test_the_handlers_are_given_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with stopped_by_signals() as stop:
        assert isinstance(stop, Stop)
        assert signal.getsignal(signal.SIGTERM) == stop.on_signal
    assert before == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
