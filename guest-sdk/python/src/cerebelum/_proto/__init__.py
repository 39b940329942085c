"""The engine's wire: messages and calls, generated from its proto file by `tools/generate_proto.py`."""
