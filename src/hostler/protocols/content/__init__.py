"""Bodies of common media types <-> tensors: JSON, CSV, JSON Lines, npy, raw bytes, pictures.

    media.py      media types, and what a client accepts
    forms.py      which form a body has
    rows.py       the JSON forms -> tensors; csv_form.py, npy.py, raw.py the others
    images.py     pictures; image_plan.py tells which input takes them
    answers.py    in which form an answer goes out; encode.py writes it
    coder.py      all of it for one signature

V2 bodies are told apart here and read and written by `protocols.oip`.
"""

from hostler.protocols.content.answers import CONTENT_TYPES, answer_form, answer_forms
from hostler.protocols.content.coder import Coder, coder_for, decode, encode, is_slow
from hostler.protocols.content.encode import Part
from hostler.protocols.content.forms import BINARY_TYPE, Body, Form, form_of, json_header_size
from hostler.protocols.content.image_plan import ImagePlan, image_plan

__all__ = [
    "BINARY_TYPE",
    "CONTENT_TYPES",
    "Body",
    "Coder",
    "Form",
    "ImagePlan",
    "Part",
    "answer_form",
    "answer_forms",
    "coder_for",
    "decode",
    "encode",
    "form_of",
    "image_plan",
    "is_slow",
    "json_header_size",
]
