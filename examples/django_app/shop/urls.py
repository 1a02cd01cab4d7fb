"""The one page of the shop: ``POST /orders`` with a ``sku``."""

from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from shop.models import Order
from shop.tasks import charge


@csrf_exempt
@require_POST
def orders(request: HttpRequest) -> JsonResponse:
    """Store an order, and charge it after the commit. Without a sku the request fails, and nothing is charged."""
    order = Order.objects.create(sku=request.POST.get("sku", ""))
    charge.delay_on_commit(order.pk)
    if not order.sku:
        raise ValueError("an order needs a sku")
    return JsonResponse({"order": order.pk})


urlpatterns = [path("orders", orders)]
