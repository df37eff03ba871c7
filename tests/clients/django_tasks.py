"""Django's ORM, with django.contrib.postgres and pgvector's fields."""

from __future__ import annotations

import sys
import uuid
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import django
from django.apps import AppConfig
from django.conf import settings

from tasks import DATABASE, USER, equal, host_port, run, task

HOST, PORT = host_port()
settings.configure(
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": HOST,
            "PORT": PORT,
            "USER": USER,
            "NAME": DATABASE,
        }
    },
    INSTALLED_APPS=[
        "django.contrib.contenttypes",
        "django.contrib.auth",
        AppConfig("library", sys.modules["__main__"]),
    ],
    MIGRATION_MODULES={"library": None},
    USE_TZ=True,
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)
django.setup()

from django.contrib.postgres.fields import ArrayField  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import (  # noqa: E402
    IntegrityError,
    OperationalError,
    ProgrammingError,
    connection,
    models,
    transaction,
)
from django.db.models import Avg, Count, F, Q, Sum  # noqa: E402
from django.db.models.functions import TruncMonth, Upper  # noqa: E402
from pgvector.django import HnswIndex, L2Distance, VectorField  # noqa: E402


class Author(models.Model):
    name = models.CharField(max_length=50, unique=True)

    class Meta:
        app_label = "library"
        db_table = "django_author"


class Book(models.Model):
    title = models.CharField(max_length=100)
    price = models.DecimalField(max_digits=8, decimal_places=2, null=True)
    made = models.DateTimeField(auto_now_add=True)
    author = models.ForeignKey(Author, on_delete=models.CASCADE, related_name="books")

    class Meta:
        app_label = "library"
        db_table = "django_book"
        indexes = [models.Index(fields=["title"], name="django_book_title")]


class Note(models.Model):
    """A model that gives its own keys, and has plain types only."""

    id = models.BigIntegerField(primary_key=True)
    body = models.TextField()
    stars = models.IntegerField(null=True)
    share = models.FloatField(null=True)
    seen = models.DateTimeField(null=True)
    day = models.DateField(null=True)
    done = models.BooleanField(default=False)
    data = models.BinaryField(null=True)

    class Meta:
        app_label = "library"
        db_table = "django_note"


class Item(models.Model):
    id = models.BigIntegerField(primary_key=True)
    embedding = VectorField(dimensions=3)

    class Meta:
        app_label = "library"
        db_table = "django_item"
        indexes = [
            HnswIndex(
                name="django_item_hnsw", fields=["embedding"], m=16, ef_construction=64,
                opclasses=["vector_l2_ops"],
            )
        ]


class Rich(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    meta = models.JSONField(null=True)
    tags = ArrayField(models.CharField(max_length=10), null=True)
    lasts = models.DurationField(null=True)

    class Meta:
        app_label = "library"
        db_table = "django_rich"


def create(*kinds: type[models.Model]) -> None:
    with connection.cursor() as cursor:
        for kind in reversed(kinds):
            cursor.execute(f"DROP TABLE IF EXISTS {kind._meta.db_table}")
    with connection.schema_editor() as editor:
        for kind in kinds:
            editor.create_model(kind)


def notes(count: int) -> None:
    create(Note)
    Note.objects.bulk_create([Note(id=i, body=f"note {i}", stars=i % 5) for i in range(count)],
                             batch_size=1000)


@task
def create_and_get() -> None:
    create(Note)
    Note.objects.create(id=1, body="one")
    note = Note.objects.get(pk=1)
    equal((note.body, note.stars, note.done), ("one", None, False))
    note.body = "two"
    note.save()
    equal(list(Note.objects.values_list("id", "body")), [(1, "two")])


@task
def automatic_keys() -> None:
    create(Author, Book)
    equal([Author.objects.create(name=n).pk for n in ("Austen", "Woolf")], [1, 2])


@task
def relations() -> None:
    create(Author, Book)
    austen = Author.objects.create(name="Austen")
    Book.objects.create(title="Emma", price=Decimal("9.90"), author=austen)
    Book.objects.create(title="Persuasion", author=austen)
    book = Book.objects.select_related("author").get(title="Emma")
    equal((book.author.name, book.price), ("Austen", Decimal("9.90")))
    (author,) = Author.objects.prefetch_related("books").annotate(n=Count("books"))
    equal((author.n, sorted(b.title for b in author.books.all())), (2, ["Emma", "Persuasion"]))
    austen.delete()
    equal(Book.objects.count(), 0)


@task
def unique_constraint() -> None:
    create(Author, Book)
    Author.objects.create(name="Austen")
    try:
        with transaction.atomic():
            Author.objects.create(name="Austen")
    except IntegrityError as error:
        equal(error.__cause__.sqlstate, "23505")  # type: ignore[union-attr]
    equal(Author.objects.get_or_create(name="Austen")[1], False)


@task
def bulk_create() -> None:
    notes(2000)
    found = Note.objects.aggregate(n=Count("*"), total=Sum("stars"))
    equal(found, {"n": 2000, "total": 4000})


@task
def bulk_create_in_one_statement() -> None:
    create(Note)
    Note.objects.bulk_create([Note(id=i, body=f"note {i}") for i in range(20000)])
    equal(Note.objects.aggregate(total=Sum("id")), {"total": 199_990_000})


@task
def upsert() -> None:
    notes(2)
    Note.objects.bulk_create(
        [Note(id=1, body="changed"), Note(id=2, body="new")],
        update_conflicts=True, update_fields=["body"], unique_fields=["id"],
    )
    found = list(Note.objects.order_by("id").values_list("body", flat=True))
    equal(found, ["note 0", "changed", "new"])
    note, made = Note.objects.update_or_create(id=1, defaults={"body": "again"})
    equal((note.body, made), ("again", False))


@task
def queries() -> None:
    notes(100)
    equal(Note.objects.filter(Q(body__icontains="NOTE 1") & ~Q(stars=1)).count(), 8)
    equal(Note.objects.filter(id__in=[1, 2, 300]).exists(), True)
    equal(Note.objects.filter(body__startswith="note 9", stars__range=(1, 2)).count(), 4)
    found = Note.objects.values("stars").annotate(n=Count("id"), m=Avg("id")).order_by("-stars")[:1]
    equal(list(found), [{"stars": 4, "n": 20, "m": 51.5}])
    equal(Note.objects.annotate(up=Upper("body")).get(id=3).up, "NOTE 3")
    equal(Note.objects.filter(id__lt=10).update(stars=F("stars") + 10), 10)
    equal(Note.objects.filter(stars__gte=10).delete()[0], 10)
    equal([n.id for n in Note.objects.order_by("-id")[5:7]], [94, 93])


@task
def dates() -> None:
    create(Note)
    for i, month in enumerate((1, 1, 2)):
        seen = datetime(2020, month, 3, tzinfo=timezone.utc)
        Note.objects.create(id=i, body="", seen=seen, day=seen.date())
    equal(Note.objects.filter(seen__year=2020, day__month=1).count(), 2)
    found = Note.objects.annotate(m=TruncMonth("day")).values("m").annotate(n=Count("id"))
    equal(list(found.order_by("m").values_list("m", "n")),
          [(date(2020, 1, 1), 2), (date(2020, 2, 1), 1)])


@task
def scalar_types() -> None:
    create(Note)
    given: dict[str, Any] = {
        "stars": -5, "share": 0.1, "seen": datetime(2001, 2, 3, 4, 5, 6, 789, timezone.utc),
        "day": date(1999, 12, 31), "done": True,
    }
    Note.objects.create(id=2**62, body="Grüße", data=b"\0\xff", **given)
    Note.objects.create(id=1, body="")
    note = Note.objects.get(id=2**62)
    equal({name: getattr(note, name) for name in given}, given)
    equal(bytes(note.data), b"\0\xff")
    equal(Note.objects.values_list("stars", "share", "seen", "day", "data").get(id=1), (None,) * 5)


@task
def rich_types() -> None:
    create(Rich)
    rich = Rich.objects.create(meta={"a": {"b": 1}}, tags=["x", "y"], lasts=timedelta(hours=3))
    found = Rich.objects.get(meta__a__b=1, tags__contains=["x"])
    equal((found.id, found.meta, found.tags, found.lasts),
          (rich.id, {"a": {"b": 1}}, ["x", "y"], timedelta(hours=3)))


@task
def vector_search() -> None:
    create(Item)
    Item.objects.bulk_create([Item(id=i, embedding=[i, 0, 1]) for i in range(100)])
    found = Item.objects.annotate(d=L2Distance("embedding", [50, 0, 1])).order_by("d", "id")[:3]
    equal([(i.id, i.d, list(i.embedding)) for i in found][:1], [(50, 0.0, [50, 0, 1])])
    near = Item.objects.alias(d=L2Distance("embedding", [50, 0, 1])).filter(d__lt=1.5)
    equal(sorted(near.values_list("id", flat=True)), [49, 50, 51])


@task
def transaction_rollback() -> None:
    notes(1)
    try:
        with transaction.atomic():
            Note.objects.create(id=5, body="")
            raise KeyError
    except KeyError:
        pass
    equal(Note.objects.count(), 1)


@task
def savepoint() -> None:
    notes(1)
    with transaction.atomic():
        Note.objects.create(id=5, body="")
        try:
            with transaction.atomic():
                Note.objects.create(id=6, body="")
                Note.objects.create(id=5, body="")
        except IntegrityError:
            pass
    equal(sorted(Note.objects.values_list("id", flat=True)), [0, 5])


@task
def select_for_update() -> None:
    notes(3)
    with transaction.atomic():
        note = Note.objects.select_for_update().get(id=1)
        note.stars = 100
        note.save()
    equal(Note.objects.get(id=1).stars, 100)


@task
def error_and_use() -> None:
    with connection.cursor() as cursor:
        try:
            cursor.execute("SELECT * FROM django_nowhere")
        except ProgrammingError as error:
            equal(error.__cause__.sqlstate, "42P01")  # type: ignore[union-attr]
        cursor.execute("SELECT %s::int + 1", [1])
        equal(cursor.fetchone(), (2,))


@task
def timeout() -> None:
    notes(20000)
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 500")
        try:
            cursor.execute(
                "SELECT count(*) FROM django_note a, django_note b WHERE a.id + b.id = 7"
            )
            raise AssertionError("there was no timeout")
        except OperationalError as error:
            equal(error.__cause__.sqlstate, "57014")  # type: ignore[union-attr]
        cursor.execute("SET statement_timeout = 0")
    equal(Note.objects.filter(id__lt=5).count(), 5)


@task
def large_result_stream() -> None:
    notes(20000)
    equal(sum(n.id for n in Note.objects.iterator(chunk_size=1000)), 199_990_000)


@task
def migrate() -> None:
    with connection.cursor() as cursor:
        for table in (
            "auth_user_user_permissions", "auth_user_groups", "auth_group_permissions",
            "auth_permission", "auth_group", "auth_user", "django_content_type",
            "django_migrations",
        ):
            cursor.execute(f"DROP TABLE IF EXISTS {table}")
    call_command("migrate", verbosity=0)
    from django.contrib.auth.models import User

    user = User.objects.create_user("reader", password="secret")
    equal((User.objects.get().pk, user.check_password("secret")), (user.pk, True))


@task
def inspect_database() -> None:
    create(Note)
    with connection.cursor() as cursor:
        tables = connection.introspection.table_names(cursor)
        assert "django_note" in tables, tables
        columns = connection.introspection.get_table_description(cursor, "django_note")
        equal([(c.name, c.null_ok) for c in columns][:3],
              [("id", False), ("body", False), ("stars", True)])
        constraints = connection.introspection.get_constraints(cursor, "django_note")
        (key,) = [c for c in constraints.values() if c["primary_key"]]
        equal((key["columns"], key["unique"]), (["id"], True))


@task
def inspectdb_command() -> None:
    from io import StringIO

    create(Note)
    out = StringIO()
    call_command("inspectdb", "django_note", stdout=out)
    assert "body = models.TextField()" in out.getvalue(), out.getvalue()
    assert "id = models.BigIntegerField(primary_key=True)" in out.getvalue(), out.getvalue()


@task
def alter_model() -> None:
    create(Note)
    Note.objects.create(id=1, body="a")
    with connection.schema_editor() as editor:
        field = models.IntegerField(default=7)
        field.set_attributes_from_name("extra")
        editor.add_field(Note, field)
    with connection.cursor() as cursor:
        cursor.execute("SELECT extra FROM django_note")
        equal(cursor.fetchall(), [(7,)])


if __name__ == "__main__":
    run("django")
