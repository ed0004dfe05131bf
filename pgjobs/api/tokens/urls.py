"""Routes of the Token API, below /api/tokens/."""

from django.urls import path

from pgjobs.api.tokens import apis

app_name = "tokens"
urlpatterns = [
    path("", apis.TokenListApi.as_view(), name="token-list"),
    path("<uuid:token_id>/", apis.TokenDetailApi.as_view(), name="token-detail"),
]
