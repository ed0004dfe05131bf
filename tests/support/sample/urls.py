"""The shop's routes."""

from django.urls import path

from sample import apis, views

urlpatterns = [
    path("api/parcels/", apis.ParcelListApi.as_view()),
    path("api/parcels/<uuid:parcel_id>/", apis.ParcelDetailApi.as_view()),
    path("api/topics/<int:topic_id>/", apis.TopicApi.as_view()),
    path("api/subscriptions/", apis.SubscriptionApi.as_view()),
    path("leave/<str:token>/", views.leave),
]
