"""The peers. Each module raises Missing, with a reason, where its peer cannot be had."""


class Missing(Exception):
    pass
