"""A real PDF, as small as one can be: pages of Helvetica text, no library."""

from __future__ import annotations

_WIDTH, _HEIGHT, _MARGIN, _LEADING = 595, 842, 56, 16
_LINES_A_PAGE = (_HEIGHT - 2 * _MARGIN) // _LEADING


def text_pdf(lines: list[str]) -> bytes:
    """The lines as an A4 document; a line that begins with `# ` is a heading. Characters outside Latin-1
    become `?`.
    """
    chunks = [lines[start : start + _LINES_A_PAGE] for start in range(0, len(lines), _LINES_A_PAGE)] or [[]]
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(chunks)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(chunks)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    for number, chunk in enumerate(chunks):
        content = _content(chunk)
        objects += [
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {_WIDTH} {_HEIGHT}] /Contents {5 + 2 * number} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>".encode(),
            b"<< /Length " + str(len(content)).encode() + b" >>\nstream\n" + content + b"\nendstream",
        ]
    return _assemble(objects)


def _content(lines: list[str]) -> bytes:
    parts = [f"BT {_LEADING} TL {_MARGIN} {_HEIGHT - _MARGIN} Td".encode()]
    for line in lines:
        heading = line.startswith("# ")
        text = line.removeprefix("# ").encode("latin-1", "replace")
        escaped = text.replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")
        parts.append(f"/F1 {18 if heading else 10} Tf (".encode() + escaped + b") Tj T*")
    return b"\n".join([*parts, b"ET"])


def _assemble(objects: list[bytes]) -> bytes:
    out, offsets = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n".encode() + body + b"\nendobj\n"
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    size, start = len(objects) + 1, len(out)
    tail = (
        f"xref\n0 {size}\n0000000000 65535 f \n{table}trailer\n<< /Size {size} /Root 1 0 R "
        f">>\nstartxref\n{start}\n%%EOF\n"
    )
    return out + tail.encode()
