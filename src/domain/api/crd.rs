//! The CustomResourceDefinition, generated from the types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

use super::{EgressPolicy, EgressShardTable};

/// Formats of integers that Kubernetes knows; it warns of others, and the bounds say more than they.
const KNOWN_FORMATS: [&str; 3] = ["int32", "int64", "date-time"];

/// The CRD as it is installed: generated from the Rust types, `nullable` stripped (an absent field and null must not
/// become two ways to say the same).
pub fn custom_resource_definition() -> CustomResourceDefinition {
    tidied(EgressPolicy::crd())
}

/// The CRD of the shard table.
pub fn shard_table_definition() -> CustomResourceDefinition {
    tidied(EgressShardTable::crd())
}

fn tidied(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        if let Some(schema) = version.schema.as_mut().and_then(|s| s.open_api_v3_schema.as_mut()) {
            tidy(schema);
        }
    }
    crd
}

fn tidy(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    schema.format = schema.format.take().filter(|format| KNOWN_FORMATS.contains(&format.as_str()));
    // Lines of the source are no paragraphs of the text.
    schema.description = schema.description.take().map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "));
    if let Some(properties) = &mut schema.properties {
        properties.values_mut().for_each(tidy);
    }
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => tidy(items),
        Some(JSONSchemaPropsOrArray::Schemas(all)) => all.iter_mut().for_each(tidy),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(additional)) = &mut schema.additional_properties {
        tidy(additional);
    }
}
