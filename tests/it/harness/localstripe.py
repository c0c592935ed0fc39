"""localstripe for one process of tests: on a free port of the loopback address, which it prints, until its input ends.

By itself it listens on every address, and all that run on a machine write what they keep to the same file in /tmp. What it
answers is left as it is.
"""

import os
import socket
import sys
import threading

from aiohttp import web
from localstripe import resources, server


def end_with_the_tests():
    # The other end of this pipe closes however the tests end.
    sys.stdin.buffer.read()
    os._exit(0)


resources.Store.dump_to_disk = lambda self: None
threading.Thread(target=end_with_the_tests, daemon=True).start()
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen()
print(listener.getsockname()[1], flush=True)
web.run_app(server.app, sock=listener, access_log=None, print=None)
