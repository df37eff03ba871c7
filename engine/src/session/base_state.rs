//! What every session's plans share: DataFusion's state with our functions, types and rules.

use std::sync::Arc;

use datafusion::execution::{FunctionRegistry as _, SessionState, SessionStateBuilder};
use datafusion::optimizer::{Analyzer, Optimizer};
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::prelude::SessionConfig;

use crate::engine::Engine;
use crate::error::Result;
use crate::optimizer::{
    CheckedNumbers, IterateSearches, KeepAboveAggregates, NullAwareIn, OrUnchanged, PostgresTypes,
    PushVectorTopK, WholeOrder, YieldInJoins,
};
use crate::planner::AsOfPlanner;
use crate::provider::{DATABASE, Names, Scope, pg_catalog, sequences};
use crate::search_config::SearchConfig;
use crate::sql::limited_range::LimitedRange;
use crate::sql::operators::{VectorCasts, VectorOperators};
use crate::sql::scalar_casts::{self, ScalarCasts};
use crate::sql::types::AzimuthTypes;

/// Functions of DataFusion with the name of one of PostgreSQL's and another meaning: other patterns
/// of dates, an array in place of rows.
const FOREIGN_FUNCTIONS: [&str; 4] = ["to_char", "date_format", "to_date", "generate_series"];

pub(super) fn base_state(engine: &Arc<Engine>, scope: &Arc<Scope>) -> Result<SessionState> {
    let mut config = SessionConfig::new()
        .with_target_partitions(engine.cpu_threads)
        .with_default_catalog_and_schema(DATABASE, "public")
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(false)
        // Scans have partitions of their own; spreading the few rows of a search costs more than
        // it gains.
        .with_round_robin_repartition(false)
        .with_option_extension(SearchConfig::default())
        .with_extension(Arc::clone(&engine.tuner));
    let options = config.options_mut();
    options.sql_parser.map_string_types_to_utf8view = false;
    // `x IS TRUE` is never NULL to the planner, and may be to what computes it.
    options.execution.skip_physical_aggregate_schema_check = true;
    // It compares keys by `==`, which no NaN passes.
    options.optimizer.enable_topk_aggregation = false;
    options.execution.time_zone = Some("UTC".to_owned());
    let mut analyzer_rules = Analyzer::new().rules;
    analyzer_rules.insert(0, Arc::new(PostgresTypes));
    analyzer_rules.push(Arc::new(CheckedNumbers));
    analyzer_rules.push(Arc::new(NullAwareIn));
    let optimizer_rules =
        Optimizer::new().rules.into_iter().map(|rule| match rule.name() == "push_down_filter" {
            true => Arc::new(KeepAboveAggregates(rule)),
            false => rule,
        });
    let optimizer_rules = optimizer_rules.collect();
    let mut physical_rules = Vec::new();
    for rule in PhysicalOptimizer::new().rules {
        match rule.name() {
            "ProjectionPushdown" => physical_rules.push(Arc::new(OrUnchanged(rule)) as _),
            "EnsureRequirements" => physical_rules.extend([rule, Arc::new(WholeOrder)]),
            _ => physical_rules.push(rule),
        }
    }
    let mut state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(Arc::clone(&engine.runtime))
        .with_catalog_list(Arc::new(Names::new(Arc::clone(scope))))
        .with_expr_planners(vec![Arc::new(VectorOperators::new())])
        .with_type_planner(Arc::new(AzimuthTypes))
        .with_relation_planners(vec![Arc::new(AsOfPlanner::new(Arc::clone(scope)))])
        .with_default_features()
        .with_analyzer_rules(analyzer_rules)
        .with_optimizer_rules(optimizer_rules)
        .with_optimizer_rule(Arc::new(PushVectorTopK))
        .with_physical_optimizer_rules(physical_rules)
        .with_physical_optimizer_rule(Arc::new(YieldInJoins))
        .with_physical_optimizer_rule(Arc::new(IterateSearches))
        .build();
    let functions = udfs::registry().into_iter().chain(pg_catalog::registry(scope));
    let functions = functions.chain(pg_catalog::array_functions::registry(scope));
    for function in functions.chain(sequences::registry(scope)).chain(scalar_casts::registry()) {
        state.register_udf(function)?;
    }
    state.register_function_rewrite(Arc::new(VectorCasts))?;
    state.register_function_rewrite(Arc::new(ScalarCasts))?;
    for name in ["sum", "avg", "min", "max"] {
        let numbers = state.udaf(name)?;
        state.register_udaf(Arc::new(udfs::own_aggregate(numbers)))?;
    }
    let range = state.udf("range")?;
    state.register_udf(Arc::new(LimitedRange::of(range)))?;
    for name in FOREIGN_FUNCTIONS {
        state.deregister_udf(name)?;
    }
    Ok(state)
}
