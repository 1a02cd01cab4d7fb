"""Signatures that receivers check with any library of Standard Webhooks."""

from __future__ import annotations

import base64

import pytest

from sluice_agent.server.webhooks.signing import decode_secret, signed_headers
from tests.support.webhook_receiver import SECRET


def test_the_example_of_the_specification() -> None:
    """Receivers would refuse all that the server sends."""
    body = b'{"test": 2432232314}'
    headers = signed_headers([decode_secret(SECRET)], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body)
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@pytest.mark.parametrize(
    ("secret", "message"),
    [("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "must begin with whsec_"), ("whsec_ä", "must be base64"),
     ("whsec_MfKQ9r8GKYq", "must be base64"), ("whsec_c2hvcnQ=", "24 to 64 bytes, and is of 5"),
     ("whsec_" + base64.b64encode(bytes(65)).decode(), "and is of 65")],
)  # fmt: skip
def test_what_is_no_secret_is_refused(secret: str, message: str) -> None:
    """Receivers would refuse all deliveries, and the error would show the secret in a log."""
    with pytest.raises(ValueError, match=message) as refusal:
        decode_secret(secret)
    assert secret not in str(refusal.value)
