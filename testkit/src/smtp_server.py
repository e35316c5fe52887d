"""A real SMTP server (aiosmtpd) that answers as a test wants it to.

    python smtp_server.py DIRECTORY PORT [--tls CERT KEY] [--user NAME PASSWORD]

Each mail that it takes is a file in DIRECTORY: JSON with envelope and content. DIRECTORY/control is read again at each
verb: JSON by verb (connect, ehlo, auth, mail, rcpt, data, content) with what is answered there; "drop" closes the connection
without an answer, "drop-taken" takes the mail first, "hang" never answers to the content.
"""

import argparse
import asyncio
import json
import os
import ssl
import sys
import uuid

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword, syntax


class Server(SMTP):
    def __init__(self, directory, **named):
        self.directory = directory
        super().__init__(Keeper(), **named)

    def wanted(self, verb):
        try:
            with open(os.path.join(self.directory, "control")) as control:
                return json.load(control).get(verb)
        except (FileNotFoundError, ValueError):
            return None

    def drop(self):
        self.transport.abort()

    async def push(self, status):
        # The greeting is what is said before anything was asked.
        if self.session and not getattr(self, "greeted", False):
            self.greeted = True
            wanted = self.wanted("connect")
            if wanted == "drop":
                return self.drop()
            if wanted:
                await super().push(wanted)
                return self.transport.close()
        return await super().push(status)

    async def said(self, verb):
        """Whether something else was answered than the verb would get."""
        wanted = self.wanted(verb)
        if not wanted:
            return False
        if wanted == "drop":
            self.drop()
        else:
            await self.push(wanted)
            if wanted.startswith("421"):
                self.transport.close()
        return True

    @syntax("EHLO hostname")
    async def smtp_EHLO(self, hostname):
        if not await self.said("ehlo"):
            await super().smtp_EHLO(hostname)

    async def smtp_AUTH(self, arg):
        if not await self.said("auth"):
            await super().smtp_AUTH(arg)

    async def smtp_MAIL(self, arg):
        if not await self.said("mail"):
            await super().smtp_MAIL(arg)

    async def smtp_RCPT(self, arg):
        if not await self.said("rcpt"):
            await super().smtp_RCPT(arg)

    async def smtp_DATA(self, arg):
        if not await self.said("data"):
            await super().smtp_DATA(arg)


class Keeper:
    """Takes mails."""

    async def handle_DATA(self, server, session, envelope):
        wanted = server.wanted("content")
        if wanted == "drop":
            server.drop()
            return "451 never seen"
        if wanted == "hang":
            await asyncio.sleep(3600)
        if wanted and wanted != "drop-taken":
            if wanted.startswith("421"):
                asyncio.get_running_loop().call_later(0.1, server.transport.close)
            return wanted
        name = uuid.uuid4().hex
        mail = {
            "id": name,
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "content": envelope.content.decode("utf-8", "replace"),
            "tls": session.ssl is not None,
            "user": session.auth_data,
        }
        path = os.path.join(server.directory, name)
        with open(path + ".part", "w") as file:
            json.dump(mail, file)
        os.rename(path + ".part", path + ".json")
        if wanted == "drop-taken":
            server.drop()
            return "451 never seen"
        return f"250 2.0.0 Ok: queued as {name[:12].upper()}"


async def serve(asked):
    context = None
    if asked.tls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*asked.tls)

    def authenticate(server, session, envelope, mechanism, data):
        if not isinstance(data, LoginPassword):
            return AuthResult(success=False, handled=False)
        # The password is read again, so that a test can change it.
        with open(os.path.join(asked.directory, "password")) as file:
            right = [asked.user, file.read()]
        given = [data.login.decode(), data.password.decode()]
        return AuthResult(success=given == right, auth_data=data.login.decode())

    def server():
        return Server(
            asked.directory,
            hostname="relay.test",
            tls_context=context,
            require_starttls=context is not None,
            auth_required=asked.user is not None,
            auth_require_tls=context is not None,
            authenticator=authenticate if asked.user else None,
            data_size_limit=None,
        )

    loop = asyncio.get_running_loop()
    listening = await loop.create_server(server, "127.0.0.1", asked.port)
    print("listening", flush=True)
    async with listening:
        await listening.serve_forever()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    parser.add_argument("port", type=int)
    parser.add_argument("--tls", nargs=2)
    parser.add_argument("--user")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
