"""Routes of signing up: pages, the link of the mail, and the API."""

from django.urls import path

from myapp.users import apis, views

urlpatterns = [
    path("signup/", views.signup, name="signup"),
    path("signup/done/", views.signup_done, name="signup-done"),
    path("activate/<str:token>/", views.activation, name="activate"),
    path("api/signup/", apis.SignupApi.as_view(), name="api-signup"),
]
