"""How often an address may sign up."""

from pgjobs.api.throttles.throttling import AddressThrottle


class SignupThrottle(AddressThrottle):
    """JOBS_THROTTLE_SIGNUP_PER_HOUR, form and API together."""

    scope = "signup"
    limit_setting = "JOBS_THROTTLE_SIGNUP_PER_HOUR"


class ResetThrottle(AddressThrottle):
    """As often may an address ask for a new password."""

    scope = "password-reset"
    limit_setting = "JOBS_THROTTLE_SIGNUP_PER_HOUR"
