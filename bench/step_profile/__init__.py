"""Step times measured, and the simulator's step-time model fitted to them: `python -m bench.step_profile`.

Reading guide: `engine.py` measures real vLLM on this machine, `llama.py` a Llama with random weights in plain PyTorch
(`--torch`, for a GPU where vLLM cannot be had); `fit.py` fits both, and the command writes a profile that
`fairlead simulate --profile FILE` takes.
"""
