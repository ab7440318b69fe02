"""What must hold before a model may advance, and what to do about it where it does not.

A gate is asked before each step. It answers with a figure, so that a refusal says how far a model is from what is
asked. Which step has which gates stands in one table (`applying`); how each is read stands in the module of its kind:
`coverage` for what the stores have, `evidence` and `bounds` for how the model does there, `sequences` for what it needs
to go on.
"""

from __future__ import annotations

from crossfade.gates.all_gates import AllGates
from crossfade.gates.coverage import Coverage
from crossfade.gates.gate import Gate, GateName, Gates, NoGates

__all__ = ["AllGates", "Coverage", "Gate", "GateName", "Gates", "NoGates"]
