"""What the shop stores."""

from django.db import models


class Order(models.Model):
    """An order of a customer."""

    sku = models.CharField(max_length=40)
    is_paid = models.BooleanField(default=False)

    def __str__(self) -> str:
        return f"order {self.pk}: {self.sku}"
