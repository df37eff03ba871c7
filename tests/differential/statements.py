"""Statements: queries, changes, transactions, and such as both servers should refuse."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from expressions import DISTANCES, LEFT_OUT, Expressions, Scope
from schema import (
    BIGINT,
    BOOLEAN,
    BYTEA,
    COLUMN_TYPES,
    DATE,
    DOUBLE,
    FLOATS,
    INTEGER,
    ORDERED,
    SMALLINT,
    TAME,
    TEXT,
    VALUES,
    VARCHAR,
    VECTOR,
    Column,
    Table,
    cast_name,
    literal,
    quote,
)  # fmt: skip
from tree import FROM, PLAIN, QUERY, Node, Parameter, items, node, optional


@dataclass(frozen=True)
class Statement:
    tree: Node
    # Whether the order of its rows is the same in every correct answer.
    ordered: bool = False
    # Whether it is sent with the extended protocol.
    extended: bool = False
    writes: bool = False
    # Whether it is the code of a refusal that counts, or only that it is refused.
    coded: bool = True

    def __str__(self) -> str:
        return str(self.tree)


def plain(sql: str) -> Statement:
    return Statement(Node(PLAIN, (sql,)))


@dataclass
class Query:
    tree: Node
    types: list[str]
    ordered: bool = False
    # Whether it may be given an order and a limit.
    open: bool = True


class Statements:
    def __init__(self, rng: Random, tables: list[Table]):
        self.rng = rng
        self.tables = tables
        self.aliases = 0

    # Relations

    def alias(self) -> str:
        self.aliases += 1
        return f"a{self.aliases}"

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def table_source(self, table: Table | None = None, bare: bool = False) -> tuple[Node, Scope]:
        table = table or self.rng.choice(self.tables)
        alias = table.name if bare else self.alias()
        named = lambda columns: [  # noqa: E731
            Column(f"{alias}.{c.sql}", c.type, c.tame, c.not_null) for c in columns
        ]
        name = table.name if bare else f"{table.name} AS {alias}"
        return Node(FROM, (name,)), Scope(named(table.columns), named(table.key))

    def source(self, joins: int, parameters: bool = False, top: bool = True) -> tuple[Node, Scope]:
        rng = self.rng
        if joins == 0:
            if self.chance(0.12):
                query = self.query(1, limit=False, parameters=parameters)
                alias = self.alias()
                columns = [Column(f"{alias}.x{at}", name) for at, name in enumerate(query.types)]
                names = ", ".join(f"x{at}" for at in range(len(query.types)))
                return node(FROM, f"({{}}) AS {alias}({names})", query.tree), Scope(columns)
            return self.table_source(bare=top and self.chance(0.3))
        left, left_scope = self.source(joins - 1, parameters, False)
        right, right_scope = self.source(0, parameters, False)
        key = left_scope.key + right_scope.key if left_scope.key and right_scope.key else []
        scope = Scope(left_scope.columns + right_scope.columns, key)
        kind = rng.choice(["INNER", "LEFT", "RIGHT", "FULL", "CROSS", "INNER", "LEFT"])
        if kind == "CROSS":
            return node(FROM, "{} CROSS JOIN {}", left, right), scope
        condition = self.join_condition(left_scope, right_scope, scope, parameters, kind)
        return node(FROM, f"{{}} {kind} JOIN {{}} ON {{}}", left, right, condition), scope

    def join_condition(
        self, left: Scope, right: Scope, both: Scope, parameters: bool, kind: str
    ) -> Node:
        pairs = [
            (a, b)
            for a in left.columns
            for b in right.columns
            if a.type == b.type and a.type in ORDERED
        ]
        # A full join needs equality of keys in PostgreSQL.
        if not pairs:
            return Node(BOOLEAN, ("true",))
        a, b = self.rng.choice(pairs)
        equal = Node(BOOLEAN, (f"{a.sql} = {b.sql}",))
        choice = self.rng.random()
        if choice < 0.6 or kind == "FULL":
            return equal
        more = Expressions(self.rng, both, parameters=parameters).predicate(1)
        if choice < 0.85:
            return node(BOOLEAN, "({} AND {})", equal, more)
        return more

    # Queries

    def subquery(self, outer: Expressions, type_name: str) -> Node | None:
        """A predicate with a subquery, or a scalar subquery, that may name columns of `outer`."""
        rng = self.rng
        # Names of an inner table hide those of an outer one, also where it is the same table.
        source, scope = self.table_source(bare=self.chance(0.3))
        inner = Expressions(rng, scope, parameters=outer.parameters)
        where = [inner.predicate(1)] if self.chance(0.6) else []
        pairs = [
            (a, b)
            for a in scope.columns
            for b in outer.scope.columns
            if a.type == b.type and a.type in ORDERED and b not in scope.columns
        ]
        if pairs and self.chance(0.5):
            a, b = rng.choice(pairs)
            operator = "=" if self.chance(0.85) else rng.choice(["<", ">", "<>"])
            where.append(Node(BOOLEAN, (f"{a.sql} {operator} {b.sql}",)))
        conditions = self.where(where)
        if type_name != BOOLEAN:
            columns = [
                c
                for c in scope.of(type_name)
                if c.type in ORDERED and c.type not in (BOOLEAN, BYTEA)
            ]
            if type_name == BIGINT:
                return node(type_name, "(SELECT count(*) FROM {}{})", source, conditions)
            if not columns:
                return None
            name = rng.choice(["min", "max"])
            return node(
                type_name, f"(SELECT {name}({columns[0].sql}) FROM {{}}{{}})", source, conditions
            )
        if self.chance(0.4):
            negation = rng.choice(["", "NOT "])
            return node(BOOLEAN, f"({negation}EXISTS (SELECT 1 FROM {{}}{{}}))", source, conditions)
        column = rng.choice([c for c in scope.columns if c.type in ORDERED])
        subject = outer.leaf(column.type)
        if (
            not any(c.sql in str(subject) for c in outer.scope.columns)
            and "constant IN (subquery)" in LEFT_OUT
        ):
            return None
        quantified = [] if "ANY and ALL" in LEFT_OUT else ["= ANY", "<> ALL", "> ALL", "<= ANY"]
        form = rng.choice(["IN", "NOT IN", "IN", "NOT IN", *quantified])
        return node(
            BOOLEAN,
            f"({{}} {form} (SELECT {column.sql} FROM {{}}{{}}))",
            subject,
            source,
            conditions,
        )

    def where(self, predicates: list[Node]) -> Node:
        if not predicates:
            return Node("optional", ())
        if len(predicates) == 1:
            return optional(" WHERE {}", predicates[0])
        return optional(" WHERE {}", node(BOOLEAN, "({} AND {})", *predicates[:2]))

    def query(
        self,
        depth: int,
        types: list[str] | None = None,
        limit: bool = True,
        parameters: bool = False,
    ) -> Query:
        """A query; with `types`, one whose columns have them."""
        choice = self.rng.random()
        if depth > 0 and choice < 0.15:
            query = self.set_operation(depth, types, parameters)
        elif choice < 0.35 and types is None:
            query = self.grouped(parameters)
        elif choice < 0.43 and types is None:
            query = self.windowed(parameters)
        elif choice < 0.5 and types is None and depth > 1:
            query = self.common_table(parameters)
        else:
            query = self.selected(depth, types, parameters, limit)
        if limit and query.open:
            query = self.order(query)
        return query

    def order(self, query: Query) -> Query:
        if self.chance(0.5) or not all(name in ORDERED for name in query.types):
            return query
        positions = list(range(1, len(query.types) + 1))
        self.rng.shuffle(positions)
        nulls = ["", "", " NULLS FIRST", " NULLS LAST"]
        keys = [
            f"{at}{self.rng.choice(['', ' ASC', ' DESC'])}{self.rng.choice(nulls)}"
            for at in positions
        ]
        tail = Node("optional", ())
        if self.chance(0.6):
            limit = (
                optional(f" LIMIT {self.rng.choice([0, 1, 2, 3, 5, 10])}")
                if self.chance(0.8)
                else optional("")
            )
            offset = (
                optional(f" OFFSET {self.rng.choice([0, 1, 2, 20])}")
                if self.chance(0.4)
                else optional("")
            )
            tail = node(PLAIN, "{}{}", limit, offset)
        tree = node(QUERY, "{} ORDER BY {}{}", query.tree, ", ".join(keys), tail)
        return Query(tree, query.types, True)

    def columns_for(self, scope: Scope) -> list[str]:
        present = [column.type for column in scope.columns]
        return [
            self.rng.choice(present if self.chance(0.7) else list(COLUMN_TYPES))
            for _ in range(self.rng.randint(1, 4))
        ]

    def selected(
        self, depth: int, types: list[str] | None, parameters: bool, whole: bool = False
    ) -> Query:
        rng = self.rng
        joins = rng.choice([0, 0, 0, 1, 1, 2]) if depth > 0 else 0
        source, scope = self.source(joins, parameters)
        # Only of a whole query without joins is it said which rows are computed.
        faults = whole and joins == 0 and types is None and self.chance(0.5)
        fault_in_where = faults and self.chance(0.3)
        projected = None if "subquery as a value" in LEFT_OUT else self.subquery
        make = Expressions(rng, scope, faults and not fault_in_where, parameters, projected)
        predicate = Expressions(rng, scope, fault_in_where, parameters, self.subquery)
        types = types or self.columns_for(scope)
        projection = items([node(PLAIN, "{}", make.make(name, 2)) for name in types])
        distinct = "DISTINCT " if self.chance(0.12) and VECTOR not in types else ""
        where = self.where(
            [predicate.predicate(2)] if not faults or fault_in_where or self.chance(0.3) else []
        )
        if faults and not fault_in_where and where.parts:
            where = Node("optional", ())
        tree = node(QUERY, f"SELECT {distinct}{{}} FROM {{}}{{}}", projection, source, where)
        # With a limit it is not said which rows are computed.
        return Query(tree, types, open=not faults)

    def aggregate(self, make: Expressions) -> tuple[Node, str]:
        rng = self.rng
        choice = rng.randrange(12)
        condition = (
            optional(" FILTER (WHERE {})", make.predicate(1))
            if self.chance(0.12)
            else Node("optional", ())
        )
        if choice == 0:
            return node(PLAIN, "count(*){}", condition), BIGINT
        if choice == 1:
            return node(PLAIN, "count({}){}", make.make(rng.choice(ORDERED), 1), condition), BIGINT
        if choice == 2:
            return node(
                PLAIN, "count(DISTINCT {}){}", make.make(rng.choice(ORDERED), 1), condition
            ), BIGINT
        if choice == 3:
            return node(PLAIN, "sum({}){}", make.make(INTEGER, 1), condition), BIGINT
        if choice == 4:
            return node(PLAIN, "sum({}){}", make.tame(), condition), DOUBLE
        if choice == 5:
            return node(PLAIN, "avg({}){}::double precision", make.leaf(INTEGER), condition), DOUBLE
        if choice == 6:
            name = rng.choice(["avg", "stddev", "var_pop", "stddev_samp"])
            return node(PLAIN, f"{name}({{}}){{}}", make.tame(), condition), DOUBLE
        if choice == 7:
            name = rng.choice(["bool_and", "bool_or"] + ["every"] * ("every" not in LEFT_OUT))
            return node(PLAIN, f"{name}({{}}){{}}", make.predicate(1), condition), BOOLEAN
        if choice == 8:
            text = make.make(TEXT, 1)
            distinct = rng.choice(["", "", "DISTINCT "])
            order = rng.choice(["", " DESC", " DESC NULLS LAST", " NULLS FIRST"])
            separator = quote(rng.choice([",", "", "; "]))
            return node(
                PLAIN,
                f"string_agg({distinct}{{}}, {separator} ORDER BY {{}}{order}){{}}",
                text,
                text,
                condition,
            ), TEXT
        if choice == 9:
            return node(PLAIN, "sum({}::bigint){}", make.leaf(SMALLINT), condition), BIGINT
        extremes = "min and max of floats" in LEFT_OUT
        unordered = (BOOLEAN, BYTEA, VARCHAR, *(FLOATS if extremes else ()))
        type_name = rng.choice([name for name in ORDERED if name not in unordered])
        name = rng.choice(["min", "max"])
        return node(PLAIN, f"{name}({{}}){{}}", make.make(type_name, 1), condition), type_name

    def grouped(self, parameters: bool) -> Query:
        rng = self.rng
        source, scope = self.source(rng.choice([0, 0, 1]), parameters)
        make = Expressions(rng, scope, False, parameters)
        groups: list[Node] = []
        types: list[str] = []
        for _ in range(rng.choice([0, 1, 1, 2])):
            type_name = rng.choice(ORDERED)
            # A parameter is not known to be the same in both clauses.
            keys = Expressions(rng, scope)
            group = keys.make(type_name, 1) if self.chance(0.4) else keys.leaf(type_name)
            # Nor may a key be a constant.
            if not any(column.sql in str(group) for column in scope.columns):
                columns = [column for column in scope.columns if column.type in ORDERED]
                if not columns:
                    continue
                column = rng.choice(columns)
                type_name, group = column.type, Node(column.type, (column.sql,))
            groups.append(group)
            types.append(type_name)
        projection = [node(PLAIN, "{}", group) for group in groups]
        for _ in range(rng.randint(1, 3)):
            aggregate, type_name = self.aggregate(make)
            projection.append(aggregate)
            types.append(type_name)
        where = self.where([make.predicate(2)] if self.chance(0.4) else [])
        by = (
            optional(" GROUP BY {}", items([node(PLAIN, "({})", group) for group in groups]))
            if groups
            else Node("optional", ())
        )
        having = Node("optional", ())
        if self.chance(0.3):
            aggregate, type_name = self.aggregate(make)
            operand = Expressions(rng, Scope([])).constant(type_name)
            having = optional(
                f" HAVING {{}} {rng.choice(['=', '<>', '<', '>='])} {{}}", aggregate, operand
            )
        tree = node(QUERY, "SELECT {} FROM {}{}{}{}", items(projection), source, where, by, having)
        return Query(tree, types)

    def windowed(self, parameters: bool) -> Query:
        rng = self.rng
        source, scope = self.source(rng.choice([0, 0, 1]), parameters)
        make = Expressions(rng, scope, False, parameters)
        projection: list[Node] = []
        types: list[str] = []
        for column in rng.sample(scope.columns, min(2, len(scope.columns))):
            if column.type in ORDERED:
                projection.append(node(PLAIN, "{}", Node(column.type, (column.sql,))))
                types.append(column.type)
        for _ in range(rng.randint(1, 2)):
            call, type_name = self.window_call(make)
            projection.append(call)
            types.append(type_name)
        where = self.where([make.predicate(1)] if self.chance(0.4) else [])
        return Query(node(QUERY, "SELECT {} FROM {}{}", items(projection), source, where), types)

    def window_call(self, make: Expressions) -> tuple[Node, str]:
        rng = self.rng
        ordered = [column for column in make.scope.columns if column.type in ORDERED]
        partition = Node("optional", ())
        if ordered and self.chance(0.6):
            partition = optional("PARTITION BY {}", Node("any", (rng.choice(ordered).sql,)))
        direction = rng.choice(["", " DESC", " DESC NULLS LAST", " NULLS FIRST"])
        if "window ordered by bytea" in LEFT_OUT:
            ordered = [column for column in ordered if column.type != BYTEA]
        if not ordered:
            return Node(PLAIN, ("count(*) OVER ()",)), BIGINT
        some_order = node(PLAIN, f" ORDER BY {{}}{direction}", make.leaf(rng.choice(ordered).type))
        total = " ORDER BY " + ", ".join([f"{c.sql}{direction}" for c in make.scope.key])
        choice = rng.random()
        if choice < 0.3 or not make.scope.key:
            name = rng.choice(["rank", "dense_rank", "percent_rank", "cume_dist"])
            type_name = BIGINT if "rank" in name and name != "percent_rank" else DOUBLE
            return node(PLAIN, f"{name}() OVER ({{}}{{}})", partition, some_order), type_name
        if choice < 0.45:
            return node(PLAIN, f"row_number() OVER ({{}}{total})", partition), BIGINT
        type_name = rng.choice(ORDERED)
        if choice < 0.65:
            name = rng.choice(["lag", "lead"])
            more = rng.choice(
                ["", ", 2", f", 1, {literal(type_name, rng.choice(VALUES[type_name]))}"]
            )
            return node(
                PLAIN, f"{name}({{}}{more}) OVER ({{}}{total})", make.leaf(type_name), partition
            ), type_name
        if choice < 0.75:
            name = rng.choice(["first_value", "last_value"])
            return node(
                PLAIN, f"{name}({{}}) OVER ({{}}{total})", make.leaf(type_name), partition
            ), type_name
        frame = rng.choice(["", "", " ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING",
                            " ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW",
                            " RANGE BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING",
                            " ROWS 2 PRECEDING"])  # fmt: skip
        order = total if frame else rng.choice(["", str(some_order), total])
        if self.chance(0.5):
            return node(
                PLAIN, f"sum({{}}) OVER ({{}}{order}{frame})", make.tame(), partition
            ), DOUBLE
        name = rng.choice(["count", "min", "max"])
        kind = rng.choice([INTEGER, TEXT, DATE])
        return node(PLAIN, f"{name}({{}}) OVER ({{}}{order}{frame})", make.leaf(kind), partition), (
            BIGINT if name == "count" else kind
        )

    def set_operation(self, depth: int, types: list[str] | None, parameters: bool) -> Query:
        types = types or [
            self.rng.choice([name for name in ORDERED]) for _ in range(self.rng.randint(1, 3))
        ]
        word = self.rng.choice(["UNION", "UNION ALL", "EXCEPT", "INTERSECT"])
        if VECTOR in types:
            word = "UNION ALL"
        left = self.selected(0, types, parameters)
        right = self.query(depth - 1, types, limit=False, parameters=parameters)
        return Query(node(QUERY, f"{{}} {word} {{}}", left.tree, right.tree), types)

    def common_table(self, parameters: bool) -> Query:
        inner = self.query(1, limit=False, parameters=parameters)
        name = self.alias()
        columns = [Column(f"{name}.x{at}", kind) for at, kind in enumerate(inner.types)]
        names = ", ".join(f"x{at}" for at in range(len(inner.types)))
        source: Node = Node(FROM, (name,))
        scope = Scope(columns)
        if self.chance(0.5):
            table, table_scope = self.table_source()
            both = Scope(columns + table_scope.columns)
            condition = self.join_condition(scope, table_scope, both, parameters, "INNER")
            source = node(FROM, "{} JOIN {} ON {}", source, table, condition)
            scope = both
        make = Expressions(self.rng, scope, False, parameters)
        types = self.columns_for(scope)
        projection = items([node(PLAIN, "{}", make.make(kind, 1)) for kind in types])
        where = self.where([make.predicate(1)] if self.chance(0.5) else [])
        tree = node(
            QUERY,
            f"WITH {name}({names}) AS ({{}}) SELECT {{}} FROM {{}}{{}}",
            inner.tree,
            projection,
            source,
            where,
        )
        return Query(tree, types)

    def search(self, parameters: bool) -> Query | None:
        """The nearest rows of a table: their distances, or in order of the key, too, the rows."""
        rng = self.rng
        tables = [table for table in self.tables if any(c.type == VECTOR for c in table.columns)]
        if not tables:
            return None
        source, scope = self.table_source(rng.choice(tables))
        column = rng.choice(scope.of(VECTOR))
        make = Expressions(rng, scope, False, parameters)
        target = (
            node(VECTOR, "{}", Parameter(tuple(rng.choice(VALUES[VECTOR]) for _ in range(3))))
            if parameters
            else Node(VECTOR, (quote(rng.choice(VALUES[VECTOR])),))
        )
        where = self.where([make.predicate(2)] if self.chance(0.6) else [])
        exact = self.chance(0.5)
        operator = rng.choice(["<->", "<#>", "<+>"] if exact else DISTANCES)
        distance = node(PLAIN, f"{column.sql} {operator} {{}}", target)
        descending = " DESC" if self.chance(0.1) else ""
        tail = f" LIMIT {rng.choice([1, 2, 3, 5, 50])}{rng.choice(['', '', ' OFFSET 2'])}"
        if exact:
            keys = items([Node(PLAIN, (key.sql,)) for key in scope.key])
            tree = node(
                QUERY,
                f"SELECT {{}} FROM {{}}{{}} ORDER BY {{}}{descending}, {{}}{tail}",
                keys,
                source,
                where,
                distance,
                keys,
            )
            return Query(tree, [key.type for key in scope.key], True)
        shown = "d" if not parameters else str(rng.choice(["d"]))
        tree = node(
            QUERY,
            f"SELECT {{}} AS {shown} FROM {{}}{{}} ORDER BY {shown}{descending}{tail}",
            distance,
            source,
            where,
        )
        if not parameters and self.chance(0.5):
            tree = node(
                QUERY,
                f"SELECT {{}} FROM {{}}{{}} ORDER BY {{}}{descending}{tail}",
                distance,
                source,
                where,
                distance,
            )
        return Query(tree, [DOUBLE], True)

    # Changes

    def insert(self, parameters: bool) -> Node:
        rng = self.rng
        table = rng.choice(self.tables)
        alias = self.alias()
        own = Scope([Column(f"{alias}.{c.sql}", c.type, c.tame, c.not_null) for c in table.columns])
        some = [c for c in table.columns if c in table.key or c.not_null or self.chance(0.7)]
        if self.chance(0.05):
            some.pop(rng.randrange(len(some)))
        if self.chance(0.5):
            rng.shuffle(some)
        names = ", ".join(c.sql for c in some)
        distinct = True
        if self.chance(0.7):
            count = rng.choice([1, 1, 2, 3])
            faulty = self.chance(0.15)
            rows = []
            # Texts that get their type from the column, or constants that have one, or both.
            form = rng.choice(
                [True, True, False, False] + [None] * ("mixed VALUES" not in LEFT_OUT)
            )
            for at in range(count):
                make = Expressions(rng, Scope([]), faulty and at == 0, parameters, quoted=form)
                rows.append(
                    node(
                        PLAIN,
                        "({})",
                        Node("plain", (self.joined([make.assignment(c, 1) for c in some]),)),
                    )
                )
            body = node(PLAIN, "VALUES {}", items(rows))
        else:
            source, scope = self.table_source()
            make = Expressions(rng, scope, False, parameters)
            # With a conflict, which of two rows with one key comes first is not said.
            distinct = [c.type for c in scope.key] == [c.type for c in table.key]
            keys = dict(zip((c.sql for c in table.key), scope.key)) if distinct else {}
            cells = [
                Node("key", (keys[c.sql].sql,)) if c.sql in keys else self.insertable(make, c)
                for c in some
            ]
            where = self.where([make.predicate(1)] if self.chance(0.6) else [])
            body = node(PLAIN, "SELECT {} FROM {}{}", self.joined(cells), source, where)
        conflict = Node("optional", ())
        choice = rng.random() if distinct else 1.0
        key = ", ".join(c.sql for c in table.key)
        if choice < 0.25:
            conflict = optional(f" ON CONFLICT{rng.choice(['', f' ({key})'])} DO NOTHING")
        elif choice < 0.55:
            excluded = Scope(
                own.columns + [Column(f"excluded.{c.sql}", c.type, c.tame) for c in some]
            )
            make = Expressions(rng, excluded, False, parameters)
            changed = [c for c in table.columns if c not in table.key]
            changed = rng.sample(changed, rng.randint(1, min(3, len(changed))))
            sets = items([node(PLAIN, f"{c.sql} = {{}}", make.assignment(c, 1)) for c in changed])
            where = self.where([make.predicate(1)] if self.chance(0.25) else [])
            conflict = optional(f" ON CONFLICT ({key}) DO UPDATE SET {{}}{{}}", sets, where)
        return node(
            PLAIN,
            f"INSERT INTO {table.name} AS {alias} ({names}) {{}}{{}}{{}}",
            body,
            conflict,
            self.returning(own),
        )

    def insertable(self, make: Expressions, column: Column) -> Node:
        if column.tame:
            return Node(column.type, (literal(column.type, self.rng.choice(TAME)),))
        if column.not_null:
            return node(
                column.type,
                f"coalesce({{}}, {literal(column.type, self.rng.choice(VALUES[column.type]))})",
                make.leaf(column.type),
            )
        return make.make(column.type, 1)

    def joined(self, nodes: list[Node]) -> Node:
        """Nodes separated by commas, none of which can be left out."""
        return node(PLAIN, ", ".join(["{}"] * len(nodes)), *nodes)

    def returning(self, scope: Scope, joined: bool = False) -> Node:
        choice = self.rng.random()
        if choice < 0.6:
            return Node("optional", ())
        if choice < 0.7 and not (joined and "RETURNING * of a join" in LEFT_OUT):
            return optional(" RETURNING *")
        make = Expressions(self.rng, scope)
        types = [self.rng.choice(scope.columns).type for _ in range(self.rng.randint(1, 2))]
        return optional(
            " RETURNING {}", items([node(PLAIN, "{}", make.make(name, 1)) for name in types])
        )

    def update(self, parameters: bool) -> Node:
        rng = self.rng
        table = rng.choice(self.tables)
        target, own = self.table_source(table)
        scope, source, join = own, Node("optional", ()), []
        if self.chance(0.3):
            # Each row is met at most once: by the key of the other table.
            other = rng.choice(self.tables)
            relation, more = self.table_source(other)
            matches = [c for c in own.columns if c.type == more.key[0].type]
            if len(more.key) == 1 and matches:
                source = node(PLAIN, " FROM {}", relation)
                scope = Scope(own.columns + more.columns)
                join = [Node(BOOLEAN, (f"{rng.choice(matches).sql} = {more.key[0].sql}",))]
        faults = not join and self.chance(0.3)
        assigned = self.chance(0.3) and "subquery as a value" not in LEFT_OUT
        make = Expressions(rng, scope, faults, parameters, self.subquery if assigned else None)
        keys = {c.sql for c in table.key}
        changed = [c for c in table.columns if c.sql not in keys]
        changed = rng.sample(changed, rng.randint(1, min(3, len(changed))))
        if faults:
            changed = changed[:1]
        sets = [node(PLAIN, f"{c.sql} = {{}}", make.assignment(c, 2)) for c in changed]
        if table.key[0].type == INTEGER and len(table.key) == 1 and self.chance(0.05):
            sets.append(
                Node(PLAIN, (f"{table.key[0].sql} = {table.key[0].sql} % 100000 + 200000",))
            )
        predicate = Expressions(
            rng, scope, False, parameters, self.subquery if self.chance(0.3) else None
        )
        where = self.where(
            join + ([predicate.predicate(1)] if self.chance(0.7) and not faults else [])
        )
        return node(
            PLAIN,
            "UPDATE {} SET {}{}{}{}",
            target,
            items(sets),
            source,
            where,
            self.returning(own, bool(join)),
        )

    def delete(self, parameters: bool) -> Node:
        target, own = self.table_source()
        scope, source, join = own, Node("optional", ()), []
        if self.chance(0.3):
            relation, more = self.table_source()
            pairs = [
                (a, b)
                for a in own.columns
                for b in more.columns
                if a.type == b.type and a.type in ORDERED
            ]
            a, b = self.rng.choice(pairs)
            source = node(PLAIN, " USING {}", relation)
            scope = Scope(own.columns + more.columns)
            join = [Node(BOOLEAN, (f"{a.sql} = {b.sql}",))]
        predicate = Expressions(
            self.rng, scope, False, parameters, self.subquery if self.chance(0.3) else None
        )
        # Most rows stay, for the statements that follow.
        where = self.where(
            [*join, node(BOOLEAN, "({} AND {})", predicate.predicate(1), predicate.predicate(0))]
        )
        return node(
            PLAIN, "DELETE FROM {}{}{}{}", target, source, where, self.returning(own, bool(join))
        )

    # Statements

    def read(self) -> Statement:
        parameters = self.chance(0.3)
        query = self.search(parameters) if self.chance(0.1) else None
        query = query or self.query(2, parameters=parameters)
        return Statement(query.tree, query.ordered, parameters or self.chance(0.1))

    def change(self) -> Statement:
        parameters = self.chance(0.3)
        make = self.rng.choices([self.insert, self.update, self.delete], [5, 4, 2])[0]
        return Statement(make(parameters), extended=parameters or self.chance(0.1), writes=True)

    def wrong(self) -> Statement:
        """A statement with a mistake in it; both servers should refuse it for a like reason."""
        rng = self.rng
        choice = rng.random()
        if choice < 0.45:
            return self.mistake()
        statement = self.change() if self.chance(0.25) else self.read()
        words = str(Statement(statement.tree)).split(" ") if "$" not in str(statement.tree) else []
        if not words:
            return self.mistake()
        at = rng.randrange(len(words))
        if choice < 0.65:
            words.pop(at)
        elif choice < 0.8:
            words.insert(at, words[rng.randrange(len(words))])
        else:
            other = rng.randrange(len(words))
            words[at], words[other] = words[other], words[at]
        return Statement(Node(PLAIN, (" ".join(words),)), writes=statement.writes, coded=False)

    def mistake(self) -> Statement:
        rng = self.rng
        source, scope = self.table_source()
        make = Expressions(rng, scope)
        column, other = rng.choice(scope.columns), rng.choice(scope.columns)
        operator = rng.choice(
            ["+", "-", "*", "/", "%", "||", "=", "<", "AND", "LIKE", "<->", "IS DISTINCT FROM"]
        )
        a, b = rng.choice(COLUMN_TYPES), rng.choice(COLUMN_TYPES)
        function = rng.choice(["lower", "abs", "length", "sum", "avg", "min", "bool_and", "sqrt",
                               "round", "upper", "reverse", "md5", "ceil", "count", "vector_dims",
                               "no_such_function"])  # fmt: skip
        cast = cast_name(rng.choice(COLUMN_TYPES))
        first, second, third = make.leaf(a), make.leaf(b), make.leaf(a)
        table = source.parts[0].split(" ")[0]
        forms = [
            # Two of these in three: types that may or may not go together.
            node(QUERY, f"SELECT {{}} {operator} {{}} FROM {{}}", first, second, source),
            node(QUERY, f"SELECT {{}} {operator} {{}} FROM {{}}", first, second, source),
            node(QUERY, f"SELECT {function}({{}}) FROM {{}}", make.leaf(a), source),
            node(QUERY, f"SELECT {{}}::{cast} FROM {{}}", make.leaf(a), source),
            node(QUERY, "SELECT coalesce({}, {}) FROM {}", make.leaf(a), make.leaf(b), source),
            node(QUERY, "SELECT {} UNION SELECT {}", make.constant(a), make.constant(b)),
            node(QUERY, "SELECT CASE WHEN {} THEN 1 END FROM {}", make.leaf(a), source),
            node(QUERY, "SELECT 1 FROM {} WHERE {}", source, make.leaf(a)),
            node(QUERY, "SELECT {} IN ({}, {}) FROM {}", first, second, third, source),
            node(PLAIN, f"INSERT INTO {table} (id) SELECT {{}}", make.constant(a)),
            node(PLAIN, f"UPDATE {{}} SET {column.sql.split('.')[1]} = {{}}", source, make.leaf(a)),
            node(QUERY, f"SELECT {column.sql}, count(*) FROM {{}}", source),
            node(QUERY, f"SELECT {column.sql} FROM {{}} GROUP BY {other.sql}", source),
            node(QUERY, f"SELECT 1 FROM {{}} WHERE count({column.sql}) > 0", source),
            node(QUERY, "SELECT 1 FROM {} WHERE row_number() OVER () > 0", source),
            node(QUERY, f"SELECT sum(count({column.sql})) FROM {{}}", source),
            node(QUERY, f"SELECT (SELECT {column.sql} FROM {table}) FROM {{}}", source),
            node(QUERY, "SELECT (SELECT 1, 2) FROM {}", source),
            node(QUERY, f"SELECT id FROM {{}}, {table}", source),
            node(QUERY, f"SELECT 1 FROM {table} AS x, {table} AS x"),
            node(QUERY, "SELECT no_such_column FROM {}", source),
            node(QUERY, f"SELECT {column.sql} FROM no_such_table"),
            node(QUERY, "SELECT nobody.id FROM {}", source),
            node(QUERY, "SELECT 1 FROM {} LIMIT -1", source),
            node(QUERY, "SELECT 1 FROM {} OFFSET -1", source),
            node(QUERY, "SELECT 1 FROM {} LIMIT 'x'", source),
            node(QUERY, "SELECT 1, 2 UNION SELECT 1"),
            node(QUERY, "SELECT 1 FROM {} ORDER BY 5", source),
            node(QUERY, f"SELECT DISTINCT {column.sql} FROM {{}} ORDER BY {other.sql}", source),
            node(QUERY, "SELECT lower() FROM {}", source),
            node(QUERY, f"SELECT lower({column.sql}, {other.sql}) FROM {{}}", source),
            node(QUERY, "SELECT x'12' + 1"),
            node(QUERY, "SELECT 'abc"),
            node(QUERY, f"SELECT 1 FROM {{}} WHERE {column.sql} = ANY (1)", source),
            node(QUERY, "SELECT 1 FROM {} GROUP BY 3", source),
            node(QUERY, f"SELECT 1 FROM {{}} HAVING {column.sql} IS NULL", source),
            node(QUERY, f"SELECT * FROM {{}} JOIN {table} ON nothing", source),
            node(QUERY, "SELECT extract(nothing FROM '2000-01-01'::timestamp)"),
            node(QUERY, "SELECT date_trunc('nothing', '2000-01-01'::timestamp)"),
            node(QUERY, "SELECT '[1,2]'::vector(3)"),
            node(QUERY, "SELECT '[1,2]'::vector <-> '[1,2,3]'::vector"),
            node(PLAIN, f"INSERT INTO {table} VALUES (1)"),
            node(PLAIN, f"INSERT INTO {table} (id, id) VALUES (1, 2)"),
            node(PLAIN, f"INSERT INTO {table} (nothing) VALUES (1)"),
            node(PLAIN, f"INSERT INTO {table} (id) VALUES (1, 2)"),
            node(PLAIN, f"INSERT INTO {table} (id) VALUES (NULL)"),
            node(PLAIN, f"INSERT INTO {table} (id) VALUES (1) ON CONFLICT (c0) DO NOTHING"),
            node(PLAIN, f"UPDATE {table} SET nothing = 1"),
            node(PLAIN, f"UPDATE {table} SET id = NULL"),
            node(PLAIN, f"UPDATE {table} SET c0 = 1, c0 = 2"),
            node(PLAIN, f"UPDATE {table} SET c0 = count(*)"),
            node(PLAIN, f"DELETE FROM {table} WHERE nothing = 1"),
            node(PLAIN, "DELETE FROM no_such_table"),
            node(PLAIN, f"CREATE TABLE {table} (id integer)"),
            node(PLAIN, "CREATE TABLE nope (a integer, a integer)"),
            node(PLAIN, "CREATE TABLE nope (a no_such_type)"),
            node(PLAIN, "DROP TABLE no_such_table"),
        ]  # fmt: skip
        form = rng.choice(forms[:11] if self.chance(0.5) else forms)
        return Statement(form, writes=form.kind == PLAIN)

    def transaction(self) -> list[Statement]:
        rng = self.rng
        script = [plain("BEGIN")]
        open_savepoints: list[str] = []
        for _ in range(rng.randint(2, 7)):
            choice = rng.random()
            if choice < 0.55:
                script.append(self.change())
            elif choice < 0.75:
                script.append(self.read())
            elif choice < 0.8:
                script.append(self.wrong())
            elif choice < 0.9 or not open_savepoints:
                open_savepoints.append(f"s{len(open_savepoints)}")
                script.append(plain(f"SAVEPOINT {open_savepoints[-1]}"))
            else:
                name = rng.choice(open_savepoints)
                script.append(plain(rng.choice(["ROLLBACK TO ", "RELEASE "]) + name))
        script.append(plain(rng.choice(["COMMIT", "COMMIT", "ROLLBACK"])))
        return script

    def script(self) -> list[Statement]:
        choice = self.rng.random()
        if choice < 0.62:
            return [self.read()]
        if choice < 0.84:
            return [self.change()]
        if choice < 0.94:
            return [self.wrong()]
        return self.transaction()
