"""An explicit-state model of capture, fence, reconcile and the moving of the authority. `docs/model.md` explains it."""
