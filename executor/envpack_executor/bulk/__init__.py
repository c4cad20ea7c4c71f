"""The second channel between a manager and its workers: bytes of layers, large values and large results.

    worker ──request (fixed size, authenticated)──▶ manager
           ◀──head, piece, digest────────────────── of a layer or a value
           ───piece, digest───────────────────────▶ of a result

Control stays on the encrypted connection, which also carries the token that both digests and requests are keyed with:
the token itself never passes here. What passes is not encrypted; it is refused unless it is what the other end sent.
"""
