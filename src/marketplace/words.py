"""The words and numbers that sample rows are made of, with the characters that trip up queries among them."""

from decimal import Decimal

GIVEN = (
    "Ada",
    "Bjørn",
    "Chloé",
    "Đặng",
    "Ewa",
    "Fátima",
    "Giải",
    "Håkon",
    "Ирина",
    "José",
    "美咲",
    "Noor",
    "Ωμέγα",
    "שרה",
)
FAMILY = (
    "Almeida",
    "Brontë",
    "Castañeda",
    "Dvořák",
    "Eze",
    "Fröhlich",
    "Gupta",
    "O'Hara",
    "Ковальчук",
    "李",
    "Łukasik",
)
ADJECTIVES = (
    "Vintage",
    "Hand-made",
    "Refurbished",
    "Größe XL",
    "Rare",
    "50% off",
    "snake_case",
    "“Boxed”",
    "Édition limitée",
)
THINGS = (
    "camera",
    "bicycle",
    "teapot ☕",
    "lamp",
    "Schreibtisch",
    "violin 🎻",
    "keyboard",
    "book",
    "jacket",
    "着物",
    "drill",
)
TAGS = (
    "new",
    "sale",
    "eco",
    "gift",
    "100%",
    "a_b",
    "it's",
    'say "hi"',
    "naïve",
    "日本",
    "🚲",
    "back\\slash",
)
CURRENCIES = ("EUR", "EUR", "EUR", "USD", "GBP", "JPY")
REGIONS = ("EU", "EU", "US", "APAC", "LATAM")
SOURCES = ("auction-house", "price_watch", "survey 100%", "crawler")
METRICS = ("page_views", "orders", "refunds", "search_hits", "basket", "dwell_ms")
DIMENSIONS = ("all", "mobile", "desktop", "app_ios", "app_android", "partner%")
SCOPES = ("company", "eu", "us", "apac")
PHRASES = (
    "Is this still available?",
    "Could you ship it to Zürich by Friday?",
    "I'd take it for 80% of the price.",
    'The label says "fragile_side_up" — is that right?',
    "Sí, mañana por la tarde.",
    "ありがとうございます 🙏",
    "Path on disk: C:\\photos\\new_folder",
    "Line one\nline two\ttabbed",
    "  spaces at both ends  ",
)
ODD_DECIMALS = (
    Decimal("0.1"),
    Decimal(0),
    Decimal("19.99"),
    Decimal("1234567890123.000000001"),
    Decimal("-0.05"),
    Decimal("0.333333333333333333333333333333"),
    Decimal(100),
    Decimal("0.000000000000000000000000000001"),
)
