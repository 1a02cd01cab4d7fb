"""What the shop does outside of requests."""

from celery import shared_task

from shop.models import Order


@shared_task
def charge(order_id: int) -> str:
    """Charge an order. Its row is there, as the job was published after the commit."""
    order = Order.objects.get(pk=order_id)
    order.is_paid = True
    order.save()
    return f"charged for {order.sku}"


@shared_task
def report() -> int:
    """Count the orders that are not paid: a job of django-celery-beat."""
    return Order.objects.filter(is_paid=False).count()


@shared_task
def clear_sessions() -> None:
    """Do what nobody wants to see: SLUICE_IGNORE_TASKS names it."""
