"""Many machines through Ray: searches spread over them, and an engine on each GPU.

Ray is imported here alone, and only when it is asked for. Knows executors and engines; not options.
"""
