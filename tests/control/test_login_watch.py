"""Failed logins: counting, slowing and lockout, without a clock."""

from mover.control.login_watch import DELAY_MAX_S, ENTRIES_MAX, LoginWatch, login_key

KEY = login_key("192.0.2.1", b"ndmp")


def fail(watch: LoginWatch, times: int, now: float = 0.0) -> list[bool]:
    return [watch.begin(KEY, now) for _ in range(times)]


def test_too_many_failures_lock_the_pair_out_until_the_lockout_ends() -> None:
    watch = LoginWatch(3, 60)
    assert fail(watch, 5) == [True, True, True, False, False]
    assert watch.is_locked(KEY, 59)
    assert not watch.begin(KEY, 59)  # tries meanwhile do not make it longer
    assert not watch.is_locked(KEY, 60)
    assert watch.begin(KEY, 60)
    assert not watch.is_locked(KEY, 60)


def test_others_are_not_locked_out() -> None:
    watch = LoginWatch(1, 60)
    fail(watch, 1)
    assert watch.is_locked(KEY, 0)
    assert watch.begin(login_key("192.0.2.2", b"ndmp"), 0)
    assert watch.begin(login_key("192.0.2.1", b"other"), 0)


def test_a_login_that_stands_clears_what_was_before() -> None:
    watch = LoginWatch(3, 60)
    fail(watch, 2)
    watch.succeeded(KEY)
    assert fail(watch, 4) == [True, True, True, False]


def test_tries_that_are_under_way_at_once_count_each() -> None:
    watch = LoginWatch(2, 60)
    assert fail(watch, 3) == [True, True, False]  # none of them has been judged yet


def test_failures_become_slower() -> None:
    watch = LoginWatch(100, 60)
    delays = []
    for _ in range(12):
        fail(watch, 1)
        delays.append(watch.delay_s(KEY, 0.1))
    assert delays[:5] == [0.1, 0.1, 0.1, 0.2, 0.4]
    assert delays[-1] == DELAY_MAX_S
    assert watch.delay_s(KEY, 20.0) == 20.0
    assert watch.delay_s(login_key("192.0.2.9", b"nobody"), 0.1) == 0.1


def test_memory_is_bounded_and_lockouts_outlive_a_flood() -> None:
    watch = LoginWatch(2, 60)
    fail(watch, 2)
    for number in range(2 * ENTRIES_MAX):
        watch.begin(login_key("192.0.2.1", b"user%d" % number), 1)
    assert len(watch._failures) == ENTRIES_MAX
    assert watch.is_locked(KEY, 1)


def test_a_flood_of_lockouts_is_bounded_too() -> None:
    watch = LoginWatch(1, 60)
    for number in range(ENTRIES_MAX + 10):
        watch.begin(login_key("192.0.2.1", b"user%d" % number), 1)
    assert len(watch._failures) == ENTRIES_MAX


def test_one_client_of_ipv6_is_its_network() -> None:
    assert login_key("2001:db8::1", b"a") == login_key("2001:db8::ffff", b"a")
    assert login_key("2001:db8:0:1::1", b"a") != login_key("2001:db8::1", b"a")
    assert login_key("fe80::1%eth0", b"a") == login_key("fe80::2", b"a")
    assert login_key("::ffff:192.0.2.1", b"ndmp") == KEY
    assert login_key("192.0.2.1", b"x" * 1000) == login_key("192.0.2.1", b"x" * 2000)
