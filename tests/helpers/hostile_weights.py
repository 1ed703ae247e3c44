"""Weight files that would run code, and the pieces that hostile archives are made of."""

import io
import os
import struct
import zipfile

from weight_files import plain


def payloads(command):
    """Pickles, protocol 2 unless text, that run a shell command when Python loads them."""
    word, system = plain(command), b"cos\nsystem\n"
    text = command.encode()
    popen = b"csubprocess\nPopen\n"
    arguments = plain(["/bin/sh", "-c", command])
    space = b"ctypes\nSimpleNamespace\n)R"
    return {
        "REDUCE": b"\x80\x02" + system + word + b"\x85R.",
        "REDUCE eval": b"\x80\x02cbuiltins\neval\n"
        + plain(f"__import__('os').system({command!r})") + b"\x85R.",
        "REDUCE in a dict": b"\x80\x02}" + plain("w") + system + word + b"\x85Rs.",
        "BUILD": b"\x80\x02" + space + b"}" + plain("__setstate__") + system + b"sb" + word + b"b.",
        "INST": b"(S" + repr(command).encode() + b"\nios\nsystem\n.",
        "INST of protocol 2": b"\x80\x02(" + word + b"ios\nsystem\n.",
        "OBJ": b"\x80\x02(" + popen + arguments + b"o.",
        "NEWOBJ": b"\x80\x02" + b"csubprocess\nPopen\n" + arguments + b"\x85R.",
        "NEWOBJ_EX": b"\x80\x04" + b"cfunctools\npartial\n" + system + word + b"\x86}\x92)R.",
        "NEWOBJ of partial": b"\x80\x02cfunctools\npartial\n" + system + word + b"\x86\x81)R.",
        "STACK_GLOBAL": b"\x80\x04" + plain("os") + plain("system") + b"\x93" + word + b"\x85R.",
        "text": b"cos\nsystem\n(S'" + text + b"'\ntR.",
    }  # fmt: skip


def zipped(method=zipfile.ZIP_DEFLATED, **members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def npy(header, numbers=b"\0" * 16):
    text = header.encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + numbers


def npy_header(shape="(4,)", descr="'<f4'"):
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n"


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)
