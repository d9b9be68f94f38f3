"""The command line, one module a command: arguments in, exit code out.

May import: everything else in producer, and worker.
"""
