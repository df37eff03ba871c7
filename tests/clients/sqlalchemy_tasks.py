"""SQLAlchemy 2 over psycopg, with pgvector's types: Core, ORM and reflection."""

from __future__ import annotations

import enum
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from pgvector.sqlalchemy import Vector
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql as pg

from tasks import DATABASE, USER, equal, host_port, run, task

INSTANT = datetime(2001, 2, 3, 4, 5, 6, 789012)


class Color(enum.Enum):
    red = "red"
    blue = "blue"


def new_engine() -> sa.Engine:
    host, port = host_port()
    return sa.create_engine(f"postgresql+psycopg://{USER}@{host}:{port}/{DATABASE}")


@contextmanager
def tables(metadata: sa.MetaData) -> Iterator[sa.Engine]:
    """An engine, and the tables of the metadata anew."""
    engine = new_engine()
    metadata.drop_all(engine)
    metadata.create_all(engine)
    yield engine
    engine.dispose()


def docs(name: str) -> sa.Table:
    return sa.Table(
        name,
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("price", sa.Double),
    )


@task
def create_insert_select() -> None:
    table = docs("sa_docs")
    with tables(table.metadata) as engine, engine.begin() as connection:
        result = connection.execute(table.insert(), {"id": 1, "title": "one", "price": 1.5})
        equal(result.inserted_primary_key, (1,))
        row = connection.execute(sa.select(table).where(table.c.id == 1)).one()
        equal(row._asdict(), {"id": 1, "title": "one", "price": 1.5})


@task
def serial_key() -> None:
    table = sa.Table(
        "sa_serial", sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True), sa.Column("title", sa.String(30)),
    )
    with tables(table.metadata) as engine, engine.begin() as connection:
        keys = [
            connection.execute(table.insert(), {"title": t}).inserted_primary_key for t in "ab"
        ]
        equal(keys, [(1,), (2,)])


@task
def identity_key() -> None:
    table = sa.Table(
        "sa_identity", sa.MetaData(),
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True), sa.Column("t", sa.Text),
    )
    with tables(table.metadata) as engine, engine.begin() as connection:
        equal(connection.execute(table.insert(), {"t": "a"}).inserted_primary_key, (1,))


@task
def server_defaults() -> None:
    table = sa.Table(
        "sa_defaults", sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("state", sa.Text, server_default="new", nullable=False),
        sa.Column("made", sa.DateTime(timezone=True), server_default=sa.func.now()),
    )
    with tables(table.metadata) as engine, engine.begin() as connection:
        row = connection.execute(table.insert().returning(table), {"id": 1}).one()
        equal((row.state, row.made is not None), ("new", True))


@task
def bulk_insert() -> None:
    table = docs("sa_bulk")
    with tables(table.metadata) as engine, engine.begin() as connection:
        connection.execute(
            table.insert(), [{"id": i, "title": f"t{i}", "price": i / 2} for i in range(2000)]
        )
        row = connection.execute(
            sa.select(sa.func.count(), sa.func.sum(table.c.price), sa.func.max(table.c.id))
        ).one()
        equal(tuple(row), (2000, 999500.0, 1999))


@task
def bulk_insert_returning() -> None:
    table = docs("sa_bulk_returning")
    with tables(table.metadata) as engine, engine.begin() as connection:
        found = connection.execute(
            table.insert().returning(table.c.id, sort_by_parameter_order=True),
            [{"id": i, "title": "t", "price": None} for i in (3, 1, 2)],
        ).scalars().all()
        equal(found, [3, 1, 2])


@task
def vector_search() -> None:
    table = sa.Table(
        "sa_vectors", sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("embedding", Vector(3)),
    )
    sa.Index(
        "sa_vectors_hnsw", table.c.embedding, postgresql_using="hnsw",
        postgresql_with={"m": 16, "ef_construction": 64},
        postgresql_ops={"embedding": "vector_l2_ops"},
    )
    with tables(table.metadata) as engine, engine.begin() as connection:
        connection.execute(table.insert(), [{"id": i, "embedding": [i, 0, 1]} for i in range(100)])
        distance = table.c.embedding.l2_distance([50, 0, 1])
        rows = connection.execute(
            sa.select(table.c.id, table.c.embedding, distance.label("d"))
            .order_by(distance).limit(1)
        ).all()
        equal([(r.id, list(r.embedding), r.d) for r in rows], [(50, [50, 0, 1], 0.0)])
        near = sa.select(table.c.id).where(distance < 1.5).order_by(table.c.id)
        equal(connection.execute(near).scalars().all(), [49, 50, 51])


@task
def transaction_rollback() -> None:
    table = docs("sa_rollback")
    with tables(table.metadata) as engine, engine.connect() as connection:
        connection.execute(table.insert(), {"id": 1, "title": "a"})
        connection.rollback()
        count = sa.select(sa.func.count()).select_from(table)
        equal(connection.execute(count).scalar(), 0)


@task
def savepoint() -> None:
    table = docs("sa_savepoint")
    with tables(table.metadata) as engine, engine.begin() as connection:
        connection.execute(table.insert(), {"id": 1, "title": "a"})
        try:
            with connection.begin_nested():
                connection.execute(table.insert(), {"id": 1, "title": "b"})
        except sa.exc.IntegrityError as error:
            equal(error.orig.sqlstate, "23505")  # type: ignore[union-attr]
        connection.execute(table.insert(), {"id": 2, "title": "c"})
        found = connection.execute(sa.select(table.c.title).order_by(table.c.id)).scalars().all()
        equal(found, ["a", "c"])


@task
def error_and_use() -> None:
    with new_engine().connect() as connection:
        try:
            connection.execute(sa.text("SELECT * FROM sa_nowhere"))
        except sa.exc.ProgrammingError as error:
            equal(error.orig.sqlstate, "42P01")  # type: ignore[union-attr]
        connection.rollback()
        equal(connection.execute(sa.text("SELECT :a + 1"), {"a": 1}).scalar(), 2)


@task
def upsert_returning() -> None:
    table = docs("sa_upsert")
    with tables(table.metadata) as engine, engine.begin() as connection:
        for title in ("a", "b"):
            insert = pg.insert(table).values(id=1, title=title)
            row = connection.execute(
                insert.on_conflict_do_update(
                    index_elements=[table.c.id], set_={"title": insert.excluded.title}
                ).returning(table.c.title)
            ).one()
            equal(tuple(row), (title,))
        nothing = pg.insert(table).values(id=1, title="c").on_conflict_do_nothing()
        equal(connection.execute(nothing.returning(table.c.id)).all(), [])


@task
def update_and_delete_returning() -> None:
    table = docs("sa_change")
    with tables(table.metadata) as engine, engine.begin() as connection:
        connection.execute(table.insert(), [{"id": i, "title": "t", "price": i} for i in range(4)])
        update = table.update().where(table.c.id == 2).values(price=table.c.price * 2)
        equal(connection.execute(update.returning(table.c.price)).scalars().all(), [4.0])
        delete = table.delete().where(table.c.id.in_([1, 3])).returning(table.c.id)
        equal(sorted(connection.execute(delete).scalars()), [1, 3])


@task
def scalar_types() -> None:
    values: dict[str, tuple[Any, Any]] = {
        "a": (sa.Boolean, True),
        "b": (sa.SmallInteger, -3),
        "c": (sa.BigInteger, 2**62),
        "d": (sa.REAL, 1.5),
        "e": (sa.Double, 0.1),
        "f": (sa.Text, "Grüße"),
        "g": (sa.String, "varchar"),
        "h": (sa.LargeBinary, b"\0\1\xff"),
        "i": (sa.Date, date(2000, 1, 2)),
        "j": (sa.DateTime, INSTANT),
        "k": (sa.DateTime(timezone=True), INSTANT.replace(tzinfo=timezone.utc)),
    }
    table = sa.Table(
        "sa_scalars", sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        *(sa.Column(name, kind) for name, (kind, _) in values.items()),
    )
    with tables(table.metadata) as engine, engine.begin() as connection:
        row = {name: value for name, (_, value) in values.items()}
        connection.execute(table.insert(), [{"id": 1, **row}, {"id": 2, **dict.fromkeys(row)}])
        first, second = connection.execute(sa.select(table).order_by(table.c.id)).all()
        equal(first._asdict(), {"id": 1, **row})
        equal(second._asdict(), {"id": 2, **dict.fromkeys(row)})


def one_type(name: str, kind: Any, value: Any) -> None:
    table = sa.Table(
        name, sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False), sa.Column("v", kind),
    )
    with tables(table.metadata) as engine, engine.begin() as connection:
        connection.execute(table.insert(), [{"id": 1, "v": value}, {"id": 2, "v": None}])
        found = connection.execute(sa.select(table.c.v).order_by(table.c.id)).scalars().all()
        equal(found, [value, None])


@task
def string_with_length() -> None:
    one_type("sa_string", sa.String(20), "twenty")


@task
def numeric_type() -> None:
    one_type("sa_numeric", sa.Numeric(12, 2), Decimal("12345.50"))


@task
def uuid_type() -> None:
    one_type("sa_uuid", sa.Uuid, uuid.UUID(int=7))


@task
def json_type() -> None:
    one_type("sa_json", pg.JSONB(none_as_null=True), {"a": [1, {"b": None}]})


@task
def array_type() -> None:
    one_type("sa_array", pg.ARRAY(sa.Text), ["a", "b,c"])


@task
def enum_type() -> None:
    one_type("sa_enum", sa.Enum(Color, name="sa_color"), Color.blue)


@task
def interval_type() -> None:
    from datetime import timedelta

    one_type("sa_interval", sa.Interval, timedelta(days=1, hours=2))


@task
def large_result_stream() -> None:
    table = docs("sa_stream")
    with tables(table.metadata) as engine, engine.begin() as connection:
        connection.execute(table.insert(), [{"id": i, "title": "t" * 50} for i in range(5000)])
        total = 0
        options = connection.execution_options(stream_results=True, yield_per=500)
        for part in options.execute(sa.select(table.c.id)).partitions():
            total += sum(row.id for row in part)
        equal(total, 12_497_500)


@task
def inspect_tables() -> None:
    table = docs("sa_inspected")
    with tables(table.metadata) as engine:
        inspector = sa.inspect(engine)
        equal(inspector.has_table("sa_inspected"), True)
        equal(inspector.has_table("sa_nowhere"), False)
        assert "sa_inspected" in inspector.get_table_names()
        assert "public" in inspector.get_schema_names()
        equal(inspector.default_schema_name, "public")


@task
def inspect_columns() -> None:
    table = sa.Table(
        "sa_columns", sa.MetaData(),
        sa.Column("a", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("b", sa.Text), sa.Column("c", Vector(3), nullable=False),
        sa.Column("d", sa.DateTime(timezone=True)),
    )
    with tables(table.metadata) as engine:
        found = sa.inspect(engine).get_columns("sa_columns")
        equal(
            [(c["name"], str(c["type"].compile(engine.dialect)), c["nullable"]) for c in found],
            [("a", "BIGINT", False), ("b", "TEXT", True), ("c", "VECTOR(3)", False),
             ("d", "TIMESTAMP WITH TIME ZONE", True)],
        )
        equal([c["default"] for c in found], [None] * 4)


@task
def inspect_primary_key() -> None:
    table = sa.Table(
        "sa_keys", sa.MetaData(),
        sa.Column("a", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("b", sa.Integer, primary_key=True, autoincrement=False),
    )
    with tables(table.metadata) as engine:
        found = sa.inspect(engine).get_pk_constraint("sa_keys")
        equal((found["name"], found["constrained_columns"]), ("sa_keys_pkey", ["a", "b"]))


@task
def inspect_foreign_keys() -> None:
    metadata = sa.MetaData()
    sa.Table("sa_parent", metadata, sa.Column("id", sa.Integer, primary_key=True,
                                              autoincrement=False))
    sa.Table(
        "sa_child", metadata,
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("parent_id", sa.ForeignKey("sa_parent.id", ondelete="CASCADE")),
    )
    with tables(metadata) as engine:
        (found,) = sa.inspect(engine).get_foreign_keys("sa_child")
        equal(
            (found["constrained_columns"], found["referred_table"], found["referred_columns"],
             found["options"]),
            (["parent_id"], "sa_parent", ["id"], {"ondelete": "CASCADE"}),
        )


@task
def inspect_unique_and_check() -> None:
    table = sa.Table(
        "sa_unique", sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("mail", sa.Text, unique=True),
        sa.CheckConstraint("id > 0", name="sa_positive"),
    )
    with tables(table.metadata) as engine:
        inspector = sa.inspect(engine)
        (unique,) = inspector.get_unique_constraints("sa_unique")
        equal((unique["name"], unique["column_names"]), ("sa_unique_mail_key", ["mail"]))
        (check,) = inspector.get_check_constraints("sa_unique")
        equal((check["name"], check["sqltext"]), ("sa_positive", "id > 0"))


@task
def inspect_no_constraints() -> None:
    table = docs("sa_plain")
    with tables(table.metadata) as engine:
        inspector = sa.inspect(engine)
        equal(inspector.get_foreign_keys("sa_plain"), [])
        equal(inspector.get_unique_constraints("sa_plain"), [])
        equal(inspector.get_check_constraints("sa_plain"), [])
        equal(inspector.get_indexes("sa_plain"), [])
        equal(inspector.get_table_comment("sa_plain"), {"text": None})
        equal(inspector.get_sequence_names() is not None, True)
        equal(inspector.get_view_names() is not None, True)


@task
def inspect_index() -> None:
    table = sa.Table(
        "sa_indexed", sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("embedding", Vector(3)),
    )
    sa.Index("sa_indexed_hnsw", table.c.embedding, postgresql_using="hnsw",
             postgresql_ops={"embedding": "vector_cosine_ops"})
    with tables(table.metadata) as engine:
        (found,) = sa.inspect(engine).get_indexes("sa_indexed")
        equal((found["name"], found["column_names"], found["unique"]),
              ("sa_indexed_hnsw", ["embedding"], False))
        equal(found["dialect_options"]["postgresql_using"], "hnsw")


@task
def reflect_table() -> None:
    table = docs("sa_autoload")
    with tables(table.metadata) as engine:
        found = sa.Table("sa_autoload", sa.MetaData(), autoload_with=engine)
        equal(
            [(c.name, type(c.type).__name__, c.nullable, c.primary_key) for c in found.columns],
            [("id", "INTEGER", False, True), ("title", "TEXT", False, False),
             ("price", "DOUBLE_PRECISION", True, False)],
        )


class Base(orm.DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "sa_author"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str] = orm.mapped_column(sa.String(50), unique=True)
    books: orm.Mapped[list[Book]] = orm.relationship(
        back_populates="author", cascade="all, delete-orphan", order_by="Book.id"
    )


class Book(Base):
    __tablename__ = "sa_book"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    title: orm.Mapped[str]
    price: orm.Mapped[Decimal | None] = orm.mapped_column(sa.Numeric(8, 2))
    made: orm.Mapped[datetime] = orm.mapped_column(server_default=sa.func.now())
    embedding: orm.Mapped[Any] = orm.mapped_column(Vector(3), nullable=True)
    author_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("sa_author.id"))
    author: orm.Mapped[Author] = orm.relationship(back_populates="books")


@task
def orm_relations() -> None:
    with tables(Base.metadata) as engine:
        with orm.Session(engine) as session:
            books = [Book(title=t, price=Decimal("9.90"), embedding=[1, 2, i])
                     for i, t in enumerate(("Emma", "Persuasion"))]
            session.add(Author(name="Austen", books=books))
            session.commit()
            equal([book.id for book in books], [1, 2])
        with orm.Session(engine) as session:
            for load in (orm.selectinload, orm.joinedload):
                author = session.scalars(
                    sa.select(Author).options(load(Author.books))
                ).unique().one()
                equal([(b.title, b.price) for b in author.books],
                      [("Emma", Decimal("9.90")), ("Persuasion", Decimal("9.90"))])
            nearest = sa.select(Book).order_by(Book.embedding.cosine_distance([1, 2, 1])).limit(1)
            equal(session.scalars(nearest).one().title, "Persuasion")
            session.delete(author)
            session.commit()
            equal(session.scalar(sa.select(sa.func.count(Book.id))), 0)


class Plain(orm.DeclarativeBase):
    pass


class Note(Plain):
    """A mapped class that gives its own keys."""

    __tablename__ = "sa_note"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True, autoincrement=False)
    body: orm.Mapped[str] = orm.mapped_column(sa.Text)
    parent: orm.Mapped[int | None]
    version: orm.Mapped[int] = orm.mapped_column()
    __mapper_args__ = {"version_id_col": version}


@task
def orm_own_keys() -> None:
    with tables(Plain.metadata) as engine:
        with orm.Session(engine) as session:
            session.add_all([Note(id=i, body=f"n{i}", parent=i - 1) for i in range(10)])
            session.commit()
        with orm.Session(engine) as session, orm.Session(engine) as other:
            note = session.get_one(Note, 3)
            note.body = "changed"
            late = other.get_one(Note, 3)
            session.commit()
            equal((note.version, note.body), (2, "changed"))
            late.body = "lost"
            try:
                other.commit()
                raise AssertionError("a lost update was accepted")
            except (orm.exc.StaleDataError, sa.exc.OperationalError):
                other.rollback()
        with orm.Session(engine) as session:
            parent = orm.aliased(Note)
            pairs = session.execute(
                sa.select(Note.body, parent.body).join(parent, Note.parent == parent.id)
                .where(Note.id > 7).order_by(Note.id)
            ).all()
            equal([tuple(p) for p in pairs], [("n8", "n7"), ("n9", "n8")])


@task
def select_for_update() -> None:
    table = docs("sa_lock")
    with tables(table.metadata) as engine, engine.begin() as connection:
        connection.execute(table.insert(), {"id": 1, "title": "a"})
        found = connection.execute(sa.select(table.c.title).with_for_update()).scalars().all()
        equal(found, ["a"])


@task
def recursive_cte() -> None:
    numbers = sa.select(sa.literal(1).label("n")).cte("numbers", recursive=True)
    numbers = numbers.union_all(sa.select(numbers.c.n + 1).where(numbers.c.n < 5))
    with new_engine().connect() as connection:
        equal(connection.execute(sa.select(sa.func.sum(numbers.c.n))).scalar(), 15)


@task
def isolation_level() -> None:
    with new_engine().connect() as connection:
        equal(connection.get_isolation_level(), "READ COMMITTED")
        connection = connection.execution_options(isolation_level="SERIALIZABLE")
        equal(connection.get_isolation_level(), "SERIALIZABLE")


if __name__ == "__main__":
    run("sqlalchemy")
