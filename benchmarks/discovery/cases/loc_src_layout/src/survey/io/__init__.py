from ..base import pieces
