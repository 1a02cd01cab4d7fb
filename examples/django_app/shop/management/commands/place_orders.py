"""``python manage.py place_orders 20``: a command is a producer like a request."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from shop.models import Order
from shop.tasks import charge, clear_sessions


class Command(BaseCommand):
    """Store and charge some orders."""

    help = "Store and charge some orders."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take the number of orders."""
        parser.add_argument("number", type=int)

    def handle(self, *_args: Any, number: int, **_options: Any) -> None:
        """Do it."""
        for count in range(number):
            charge.delay_on_commit(Order.objects.create(sku=f"teapot-{count}").pk)
        clear_sessions.delay()
        self.stdout.write(f"{number} orders are placed.")
