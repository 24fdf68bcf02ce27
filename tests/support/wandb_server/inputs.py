"""What the mutations take: a GraphQL schema of their inputs, and the validation that it is for.

A server refuses fields, arguments, variables and enum values that its schema does not have, and
asks for all that it requires: https://spec.graphql.org/October2021/#sec-Input-Object-Field-Names.
"""

from collections.abc import Mapping
from typing import Any

from graphql import build_schema, validate
from graphql.execution.values import get_variable_values
from graphql.language import ast
from graphql.validation import (
    KnownArgumentNamesRule,
    NoUndefinedVariablesRule,
    ProvidedRequiredArgumentsRule,
    ValuesOfCorrectTypeRule,
    VariablesInAllowedPositionRule,
)

# Each input is as the files say that the comment before it names: those of the SDK's package, or
# wandb-core's, whose text is in its program: core/internal/gql/gql_gen.go of wandb/wandb. What is
# passed there as a variable has the variable's type; what is never passed is left out.
MUTATIONS = """
# wandb/apis/public/runs.py (Run.update, Run.delete, Run.update_state, Run.upload_file), api.py
# (Api.create_run) and summary.py beside it; wandb-core: UpsertBucket, CreateRunFiles.
input UpsertBucketInput {
    id: String, name: String, groupName: String, modelName: String, entityName: String,
    description: String, displayName: String, notes: String, config: JSONString, commit: String,
    host: String, debug: Boolean, jobProgram: String, jobRepo: String, jobType: String,
    state: String, sweep: String, tags: [String!], summaryMetrics: JSONString
}
input DeleteRunInput { id: ID!, deleteArtifacts: Boolean }
input UpdateRunStateInput { id: ID!, state: String! }
input CreateRunFilesInput {
    entityName: String!, projectName: String!, runName: String!, files: [String!]!
}

# wandb-core: NotifyScriptableRunAlert; wandb/sdk/wandb_alerts.py
input NotifyScriptableRunAlertInput {
    entityName: String!, projectName: String!, runName: String!, title: String!, text: String!,
    severity: AlertSeverity!, waitDuration: Duration
}
enum AlertSeverity { INFO, WARN, ERROR }

# wandb/apis/public/sweeps.py: _upsert_sweep, _register_agent, _agent_heartbeat
input UpsertSweepInput {
    id: ID, config: String, description: String, entityName: String, projectName: String,
    controller: JSONString, launchScheduler: JSONString, templateVariableValues: JSONString,
    scheduler: JSONString, state: String, priorRunsFilters: JSONString, displayName: String
}
input CreateAgentInput { host: String!, projectName: String, entityName: String, sweep: String! }
input AgentHeartbeatInput { id: ID!, metrics: JSONString, runState: JSONString }

# wandb/sdk/artifacts/_gqlutils.py (create_artifact_version, record_artifact_use); wandb-core:
# CreateArtifact, CreateArtifactManifest, UpdateArtifactManifest, CreateArtifactFiles,
# CompleteMultipartUploadArtifact, CommitArtifact, UseArtifact
input CreateArtifactInput {
    entityName: String!, projectName: String!, artifactTypeName: String!,
    artifactCollectionName: String, artifactCollectionNames: [String!], runName: String,
    digest: String!, digestAlgorithm: ArtifactDigestAlgorithm!, description: String,
    labels: JSONString, aliases: [ArtifactAliasInput!], tags: [TagInput!], metadata: JSONString,
    ttlDurationSeconds: Int64, historyStep: Int64, enableDigestDeduplication: Boolean,
    distributedID: String, clientID: ID, sequenceClientID: ID, storageRegion: String,
    clientMutationId: String
}
enum ArtifactDigestAlgorithm { MANIFEST_MD5, MANIFEST_XXH128 }
input CreateArtifactManifestInput {
    artifactID: ID!, baseArtifactID: ID, name: String!, digest: String!, entityName: String!,
    projectName: String!, runName: String!, type: ArtifactManifestType!
}
enum ArtifactManifestType { FULL, PATCH, INCREMENTAL }
input UpdateArtifactManifestInput { artifactManifestID: ID!, digest: String, baseArtifactID: ID }
input CreateArtifactFilesInput {
    artifactFiles: [CreateArtifactFileSpecInput!]!, storageLayout: ArtifactStorageLayout,
    digestAlgorithm: ArtifactDigestAlgorithm, cloudRegionID: ID, clientMutationId: String
}
input CreateArtifactFileSpecInput {
    artifactID: ID!, name: String!, digest: String, md5: String!, mimetype: String,
    artifactManifestID: ID, uploadPartsInput: [UploadPartsInput!]
}
input UploadPartsInput { partNumber: Int64!, hexMD5: String! }
enum ArtifactStorageLayout { V1, V2 }
input CompleteMultipartUploadArtifactInput {
    completeMultipartAction: CompleteMultipartAction!, completedParts: [UploadPartsInput!]!,
    artifactID: ID!, storagePath: String!, uploadID: String!
}
enum CompleteMultipartAction { Complete }
input CommitArtifactInput { artifactID: ID! }
input UseArtifactInput {
    entityName: String!, projectName: String!, runName: String!, artifactID: ID!, usedAs: String,
    artifactEntityName: String, artifactProjectName: String, clientMutationId: String
}

# wandb/sdk/artifacts/_generated/input_types.py
input UpdateArtifactInput {
    aliases: [ArtifactAliasInput!], artifactID: ID!, clientMutationId: String,
    description: String, labels: JSONString, metadata: JSONString, tagsToAdd: [TagInput!],
    tagsToDelete: [TagInput!], ttlDurationSeconds: Int64
}
input DeleteArtifactInput { artifactID: ID!, clientMutationId: String, deleteAliases: Boolean }
input LinkArtifactInput {
    aliases: [ArtifactAliasInput!], artifactID: ID, artifactPortfolioID: ID,
    artifactPortfolioName: String, clientID: ID, clientMutationId: String, entityName: String,
    projectName: String
}
input AddAliasesInput {
    aliases: [ArtifactCollectionAliasInput!]!, artifactID: ID!, clientMutationId: String
}
input DeleteAliasesInput {
    aliases: [ArtifactCollectionAliasInput!]!, artifactID: ID!, clientMutationId: String
}
input ArtifactAliasInput { alias: String!, artifactCollectionName: String! }
input ArtifactCollectionAliasInput {
    alias: String!, artifactCollectionName: String!, entityName: String!, projectName: String!
}
input TagInput { attributes: String, tagCategoryName: String, tagName: String! }

scalar JSONString
scalar Int64
scalar Duration
scalar Payload  # what is answered, of which execute.py knows the fields

type Mutation {
    upsertBucket(input: UpsertBucketInput!): Payload
    deleteRun(input: DeleteRunInput!): Payload
    updateRunState(input: UpdateRunStateInput!): Payload
    createRunFiles(input: CreateRunFilesInput!): Payload
    notifyScriptableRunAlert(input: NotifyScriptableRunAlertInput!): Payload
    upsertSweep(input: UpsertSweepInput!): Payload
    createAgent(input: CreateAgentInput!): Payload
    agentHeartbeat(input: AgentHeartbeatInput!): Payload
    createArtifact(input: CreateArtifactInput!): Payload
    createArtifactManifest(input: CreateArtifactManifestInput!): Payload
    updateArtifactManifest(input: UpdateArtifactManifestInput!): Payload
    createArtifactFiles(input: CreateArtifactFilesInput!): Payload
    completeMultipartUploadArtifact(input: CompleteMultipartUploadArtifactInput!): Payload
    commitArtifact(input: CommitArtifactInput!): Payload
    useArtifact(input: UseArtifactInput!): Payload
    updateArtifact(input: UpdateArtifactInput!): Payload
    deleteArtifact(input: DeleteArtifactInput!): Payload
    linkArtifact(input: LinkArtifactInput!): Payload
    addAliases(input: AddAliasesInput!): Payload
    deleteAliases(input: DeleteAliasesInput!): Payload
}
"""
SCHEMA = build_schema(MUTATIONS, assume_valid=True)  # it has no type for queries
RULES = (
    KnownArgumentNamesRule,
    NoUndefinedVariablesRule,
    ProvidedRequiredArgumentsRule,
    ValuesOfCorrectTypeRule,
    VariablesInAllowedPositionRule,
)


def problems(
    document: ast.DocumentNode,
    operation: ast.OperationDefinitionNode,
    variables: Mapping[str, Any],
) -> list[str]:
    """Why a server refuses an operation's arguments or variables; of a query, undefined variables.

    Args:
        document: what the client sent.
        operation: the one operation in it.
        variables: the values of its variables.
    """
    errors = validate(SCHEMA, document, RULES)
    if not errors and operation.operation is ast.OperationType.MUTATION:
        values = get_variable_values(SCHEMA, operation.variable_definitions, dict(variables))
        errors = values if isinstance(values, list) else []
    return [error.message for error in errors]
