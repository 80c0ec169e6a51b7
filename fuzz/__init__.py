"""Coverage-guided fuzzing of every parser that reads foreign files; see docs/fuzzing.md. Ships with no wheel."""
