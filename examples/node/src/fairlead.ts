// What a program needs around the contract: a typed client, the key on each call, events one by one, typed errors.
import {
  type ChannelCredentials, type Client, type ClientReadableStream, type ServiceError, Metadata, credentials, loadPackageDefinition, status,
} from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { ProtoGrpcType as DetailTypes } from "../generated/error_details.js";
import type { InferenceServiceClient } from "../generated/fairlead/v1/InferenceService.js";
import type { JobServiceClient } from "../generated/fairlead/v1/JobService.js";
import type { ProtoGrpcType as InferenceTypes } from "../generated/inference.js";
import type { ProtoGrpcType as JobTypes } from "../generated/jobs.js";
import type { ProtoGrpcType as StatusTypes } from "../generated/status.js";

const MAX_MESSAGE_BYTES = 4 * 1024 * 1024; // fairlead takes and sends no larger message
const folder = (path: string) => fileURLToPath(new URL(`../../../../${path}`, import.meta.url));

// The same choices as in `npm run generate`, which makes the types of what is loaded here.
const loaded = loadPackageDefinition(
  loadSync(["fairlead/v1/inference.proto", "fairlead/v1/jobs.proto", "google/rpc/status.proto", "google/rpc/error_details.proto"], {
    includeDirs: [folder("protos"), folder("examples/protos")],
    longs: Number, enums: String, oneofs: true, defaults: true,
  }),
) as unknown as InferenceTypes & StatusTypes & DetailTypes;
const jobs = (loaded as unknown as JobTypes).fairlead.v1;
const rpc = loaded.google.rpc as StatusTypes["google"]["rpc"] & DetailTypes["google"]["rpc"];

// TLS where FAIRLEAD_CA names the CA of the scheduler's certificate (a PEM file), with a certificate of one's own where
// FAIRLEAD_CERT and FAIRLEAD_CERT_KEY name one; else plain text, which is for the same machine alone.
function fromEnvironment(): ChannelCredentials {
  const file = (variable: string) => (process.env[variable] ? readFileSync(process.env[variable]!) : null);
  const ca = file("FAIRLEAD_CA");
  if (ca === null) return credentials.createInsecure();
  return credentials.createSsl(ca, file("FAIRLEAD_CERT_KEY"), file("FAIRLEAD_CERT"));
}

const OPTIONS = {
  "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
  "grpc.max_send_message_length": MAX_MESSAGE_BYTES,
  "grpc.keepalive_time_ms": 10_000, // the server refuses pings that come more often than each 5 s
  "grpc.keepalive_timeout_ms": 10_000,
};

export function connect(address: string): InferenceServiceClient & Client {
  return new loaded.fairlead.v1.InferenceService(address, fromEnvironment(), OPTIONS);
}

export function connectJobs(address: string): JobServiceClient & Client {
  return new jobs.JobService(address, fromEnvironment(), OPTIONS);
}

// Who is asking is told by the key alone.
export function withKey(key: string): Metadata {
  const metadata = new Metadata();
  metadata.set("authorization", `Bearer ${key}`);
  return metadata;
}

// The events of a stream, one by one. Leaving the loop early ends the call, which cancels a request without grace.
export async function* events<T>(call: ClientReadableStream<T>): AsyncGenerator<T> {
  try {
    for await (const event of call as AsyncIterable<T>) yield event;
  } finally {
    call.on("error", () => {}); // whoever leaves early does not want to be told that the call was cancelled
    call.cancel();
  }
}

export interface Problem {
  code: string;
  message: string;
  reason: string; // ErrorInfo, for programs: of a closed set
  fields: Record<string, string>; // BadRequest: what is wrong, by field path
  quota?: string; // QuotaFailure: what is exhausted
  retryAfterMs?: number; // RetryInfo: when to try again
}

// What a failed call tells; the details lie in the trailer `grpc-status-details-bin` as a google.rpc.Status.
export function problemOf(error: ServiceError): Problem {
  const problem: Problem = { code: status[error.code]!, message: error.details, reason: "", fields: {} };
  const [packed] = error.metadata?.get("grpc-status-details-bin") ?? [];
  if (!(packed instanceof Buffer)) return problem;
  for (const detail of rpc.Status.deserialize(packed).details) {
    const { type_url: type, value } = detail as { type_url: string; value: Buffer };
    readDetail(type, value, problem);
  }
  return problem;
}

function readDetail(type: string, value: Buffer, problem: Problem): void {
  switch (type.split("/").pop()) {
    case "google.rpc.ErrorInfo":
      problem.reason = rpc.ErrorInfo.deserialize(value).reason;
      break;
    case "google.rpc.BadRequest":
      for (const each of rpc.BadRequest.deserialize(value).fieldViolations) {
        problem.fields[each.field] = each.description;
      }
      break;
    case "google.rpc.QuotaFailure":
      problem.quota = rpc.QuotaFailure.deserialize(value).violations[0]?.description;
      break;
    case "google.rpc.RetryInfo": {
      const delay = rpc.RetryInfo.deserialize(value).retryDelay;
      if (delay) problem.retryAfterMs = Number(delay.seconds) * 1000 + delay.nanos / 1e6;
      break;
    }
  }
}

export function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && "code" in error && "details" in error;
}

// Tells a failed call and makes the exit code 1; anything else is thrown on.
export function fail(error: unknown): void {
  process.exitCode = 1;
  if (!isServiceError(error)) throw error;
  const problem = problemOf(error);
  console.error(`error: ${problem.code} ${problem.reason}: ${problem.message}`);
  if (problem.retryAfterMs !== undefined) console.error(`retry after: ${problem.retryAfterMs} ms`);
}
