"""Routes of the User API, below /api/users/."""

from django.urls import path

from myapp.users import apis

app_name = "users"
urlpatterns = [
    path("", apis.UserListApi.as_view(), name="user-list"),
    path("<uuid:user_id>/", apis.UserDetailApi.as_view(), name="user-detail"),
]
