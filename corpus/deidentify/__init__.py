"""Find what identifies a person in a text and put placeholders there.

    spans = Deidentifier().find(["call me on 555-867-5309"])[0]   # [Span(start=11, end=23, label='PHONE')]
    mask("call me on 555-867-5309", spans)                        # 'call me on [phone]'

This lowers the risk that an author or a third person is recognised; it does not make a text anonymous.
"""

from corpus.deidentify.deidentifier import BACKENDS, Deidentifier, check_backend
from corpus.deidentify.posts import MaskedPost, mask_posts
from corpus.deidentify.spans import LABELS, Span, mask

__all__ = ["BACKENDS", "LABELS", "Deidentifier", "MaskedPost", "Span", "check_backend", "mask", "mask_posts"]
