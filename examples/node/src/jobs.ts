// Submits a file of requests (JSON lines) and prints each result as a line of JSON. The job runs without this program;
// the same file under the same key finds the job that is there already.
//
//   FAIRLEAD_ADDRESS=127.0.0.1:7600 FAIRLEAD_KEY=... npm run --silent jobs -- prompts.jsonl [KEY]
import { status } from "@grpc/grpc-js";
import { randomUUID } from "node:crypto";
import { createReadStream } from "node:fs";
import { argv } from "node:process";
import { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import type { JobResult__Output } from "../generated/fairlead/v1/JobResult.js";
import type { SubmitJobRequest } from "../generated/fairlead/v1/SubmitJobRequest.js";
import type { SubmitJobResponse__Output } from "../generated/fairlead/v1/SubmitJobResponse.js";
import { connectJobs, events, fail, isServiceError, withKey } from "./fairlead.js";

const MOST_BREAKS = 20;
const client = connectJobs(process.env.FAIRLEAD_ADDRESS ?? "127.0.0.1:7600");
const metadata = withKey(process.env.FAIRLEAD_KEY ?? "");

// Options first, then the bytes of the file, cut anywhere.
async function* parts(file: string, idempotencyKey: string): AsyncGenerator<SubmitJobRequest> {
  yield { options: { idempotencyKey, name: file } };
  for await (const jsonl of createReadStream(file)) yield { jsonl };
}

// The answer comes when the job is on disk.
function submit(file: string, idempotencyKey: string): Promise<SubmitJobResponse__Output> {
  return new Promise((resolve, reject) => {
    const call = client.submitJob(metadata, { deadline: Date.now() + 60_000 }, (error, answer) => {
      if (error) reject(error);
      else resolve(answer!);
    });
    Readable.from(parts(file, idempotencyKey)).on("error", reject).pipe(call as unknown as NodeJS.WritableStream);
  });
}

// Each result once, in line order; where the scheduler restarts meanwhile, it goes on behind the last one received.
async function* results(jobId: string): AsyncGenerator<JobResult__Output> {
  let fromLine = 1;
  for (let breaks = 0; ; ) {
    try {
      for await (const { results } of events(client.streamResults({ jobId, fromLine }, metadata))) {
        for (const result of results) {
          yield result;
          fromLine = result.line + 1;
        }
        breaks = 0;
      }
      return;
    } catch (error) {
      if (!isServiceError(error) || error.code !== status.UNAVAILABLE || ++breaks > MOST_BREAKS) throw error;
      await sleep(1000);
    }
  }
}

try {
  const [, , file, key = randomUUID()] = argv;
  if (file === undefined) throw new Error("which file? npm run jobs -- prompts.jsonl");
  const { job, existed } = await submit(file, key);
  console.error(`job ${job!.jobId}: ${job!.lines} lines${existed ? ", submitted before" : ""}`);
  for await (const { line, customId, outcome, text } of results(job!.jobId)) {
    console.log(JSON.stringify({ line, customId, outcome, text }));
  }
} catch (error) {
  fail(error);
} finally {
  client.close();
}
