"""An SMTP server (aiosmtpd) for one process of tests: on a free port of the loopback address, which it prints, until its input ends.

Each letter that it takes it prints as a line of JSON. How it answers a recipient says the local part of the address: `unknown`
is refused for good, `busy-N` N times for now, `cut-N` N times by closing the connection in the middle of the letter.
"""

import asyncio
import base64
import collections
import json
import logging
import os
import ssl
import sys
import threading
import warnings

from aiosmtpd.smtp import SMTP, AuthResult

CERTIFICATE = os.environ.get("SMTP_CERTIFICATE")
WRAPPED = os.environ.get("SMTP_WRAPPED") == "yes"
PASSWORD = os.environ.get("SMTP_PASSWORD")

tries = collections.Counter()


def end_with_the_tests():
    # The other end of this pipe closes however the tests end.
    sys.stdin.buffer.read()
    os._exit(0)


def times(address, kind):
    """Whether it goes so with this recipient this time."""
    local = address.split("@")[0]
    if not local.startswith(kind + "-"):
        return False
    tries[address] += 1
    return tries[address] <= int(local.split("-")[1])


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("unknown@"):
            return "550 5.1.1 <%s> is not known here" % address
        if times(address, "busy"):
            return "451 4.7.1 <%s> later" % address
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        if any(times(address, "cut") for address in envelope.rcpt_tos):
            server.transport.close()
            return "421 4.3.0 never sent"
        letter = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "content": base64.b64encode(envelope.content).decode(),
            "tls": session.ssl is not None or WRAPPED,
            "user": getattr(session, "auth_data", None),
        }
        print(json.dumps(letter), flush=True)
        return "250 OK"


def authenticate(server, session, envelope, mechanism, data):
    right = data.password.decode() == PASSWORD
    return AuthResult(success=right, handled=False, auth_data=data.login.decode())


def smtp():
    return SMTP(
        Handler(),
        enable_SMTPUTF8=True,
        tls_context=None if WRAPPED else context,
        require_starttls=context is not None and not WRAPPED,
        authenticator=authenticate if PASSWORD else None,
        auth_required=PASSWORD is not None,
        auth_require_tls=context is not None and not WRAPPED,
        auth_exclude_mechanism=[],
        loop=loop,
    )


# Whoever does not trust it breaks off, and is meant to.
logging.disable(logging.CRITICAL)
warnings.simplefilter("ignore")
context = None
if CERTIFICATE:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
threading.Thread(target=end_with_the_tests, daemon=True).start()
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
listening = loop.run_until_complete(
    loop.create_server(smtp, "127.0.0.1", int(os.environ.get("SMTP_PORT", "0")), ssl=context if WRAPPED else None)
)
print(listening.sockets[0].getsockname()[1], flush=True)
loop.run_forever()
