import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.QuotaFailure;
import com.google.rpc.RetryInfo;
import fairlead.v1.InferenceServiceGrpc;
import fairlead.v1.InferenceServiceGrpc.InferenceServiceBlockingStub;
import fairlead.v1.Inference.CancelRequest;
import fairlead.v1.Inference.GenerateRequest;
import fairlead.v1.Inference.GenerateResponse;
import fairlead.v1.Types.SamplingParams;
import fairlead.v1.Types.ServiceClass;
import io.grpc.ChannelCredentials;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.StatusRuntimeException;
import io.grpc.TlsChannelCredentials;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.MetadataUtils;
import java.io.File;
import java.io.IOException;
import java.io.PrintStream;
import java.util.Iterator;
import java.util.UUID;
import java.util.concurrent.TimeUnit;

/**
 * Streams one answer, cancels one in mid-stream, and reads a typed refusal.
 *
 * <p>{@code FAIRLEAD_ADDRESS=127.0.0.1:7600 FAIRLEAD_KEY=... java -cp "$(./classpath.sh)" Example}
 */
public final class Example {
  private static final int MAX_MESSAGE_BYTES = 4 << 20; // fairlead takes and sends no larger message
  private static final int LONG_ANSWER = 2000;

  private final InferenceServiceBlockingStub stub;

  private Example(ManagedChannel channel, String key) {
    // Who is asking is told by the key alone.
    Metadata metadata = new Metadata();
    metadata.put(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER), "Bearer " + key);
    stub =
        InferenceServiceGrpc.newBlockingStub(channel)
            .withInterceptors(MetadataUtils.newAttachHeadersInterceptor(metadata));
  }

  public static void main(String[] arguments) throws Exception {
    ManagedChannel channel =
        Grpc.newChannelBuilder(System.getenv().getOrDefault("FAIRLEAD_ADDRESS", "127.0.0.1:7600"), fromEnvironment())
            .maxInboundMessageSize(MAX_MESSAGE_BYTES)
            .keepAliveTime(10, TimeUnit.SECONDS) // the server refuses pings that come more often than each 5 s
            .keepAliveTimeout(10, TimeUnit.SECONDS)
            .build();
    int code = 0;
    try {
      Example example = new Example(channel, System.getenv().getOrDefault("FAIRLEAD_KEY", ""));
      example.stream();
      example.cancel();
      example.refused();
    } catch (StatusRuntimeException error) {
      tell(System.err, "error", error);
      code = 1;
    } finally {
      channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
    }
    System.exit(code);
  }

  /**
   * TLS where FAIRLEAD_CA names the CA of the scheduler's certificate (a PEM file), with a certificate of one's own where
   * FAIRLEAD_CERT and FAIRLEAD_CERT_KEY name one; else plain text, which is for the same machine alone.
   */
  private static ChannelCredentials fromEnvironment() throws IOException {
    String ca = System.getenv("FAIRLEAD_CA");
    if (ca == null) {
      return InsecureChannelCredentials.create();
    }
    TlsChannelCredentials.Builder tls = TlsChannelCredentials.newBuilder().trustManager(new File(ca));
    String own = System.getenv("FAIRLEAD_CERT");
    if (own != null) {
      tls.keyManager(new File(own), new File(System.getenv("FAIRLEAD_CERT_KEY")));
    }
    return tls.build();
  }

  /** Starts one request. The same id with the same content attaches to the first, so a retry is safe. */
  private Iterator<GenerateResponse> ask(String id, String text, SamplingParams.Builder sampling) {
    GenerateRequest request =
        GenerateRequest.newBuilder()
            .setRequestId(id)
            .setText(text)
            .setServiceClass(ServiceClass.SERVICE_CLASS_LATENCY_SENSITIVE)
            .setSampling(sampling)
            .build();
    return stub.withDeadlineAfter(60, TimeUnit.SECONDS).generate(request); // its deadline is the call's
  }

  private void stream() {
    System.out.println("== stream");
    SamplingParams.Builder sampling = SamplingParams.newBuilder().setMaxTokens(40);
    Iterator<GenerateResponse> events = ask(UUID.randomUUID().toString(), "Count from 1 to 20.", sampling);
    while (events.hasNext()) {
      GenerateResponse event = events.next();
      switch (event.getEventCase()) {
        case ACCEPTED:
          System.out.printf(
              "accepted: tenant %s, model %s%n", event.getAccepted().getTenant(), event.getAccepted().getModel());
          break;
        case DELTA:
          System.out.print(event.getDelta().getText());
          break;
        case FINISHED:
          System.out.printf(
              "%nfinished: %s, %d tokens%n",
              event.getFinished().getOutcome(), event.getFinished().getUsage().getOutputTokens());
          break;
        default: // an event of a newer contract
      }
    }
  }

  private void cancel() {
    System.out.println("== cancel");
    String id = UUID.randomUUID().toString();
    SamplingParams.Builder sampling =
        SamplingParams.newBuilder().setMaxTokens(LONG_ANSWER).setMinTokens(LONG_ANSWER).setIgnoreEos(true);
    Iterator<GenerateResponse> events = ask(id, "Tell me a long story.", sampling);
    int tokens = 0;
    while (events.hasNext()) {
      GenerateResponse event = events.next();
      if (event.hasDelta()) {
        if (tokens == 0) { // ending the call would cancel too, but say nothing more; Cancel lets the last event come
          stub.withDeadlineAfter(10, TimeUnit.SECONDS).cancel(CancelRequest.newBuilder().setRequestId(id).build());
        }
        tokens += event.getDelta().getTokenCount();
      } else if (event.hasFinished()) {
        System.out.printf(
            "finished: %s after %s of %d tokens%n",
            event.getFinished().getOutcome(), tokens < LONG_ANSWER ? "some" : "all", LONG_ANSWER);
      }
    }
  }

  private void refused() {
    System.out.println("== refused");
    try {
      ask(UUID.randomUUID().toString(), "Hello.", SamplingParams.newBuilder().setTemperature(-1)).hasNext();
      throw new AssertionError("a temperature of -1 was accepted");
    } catch (StatusRuntimeException error) {
      tell(System.out, "refused", error);
    }
  }

  /** Prints a failed call with its details: the trailer grpc-status-details-bin, unpacked by StatusProto. */
  private static void tell(PrintStream out, String what, StatusRuntimeException error) {
    com.google.rpc.Status status = StatusProto.fromThrowable(error);
    StringBuilder lines = new StringBuilder();
    String reason = "";
    try {
      for (Any detail : status.getDetailsList()) {
        if (detail.is(ErrorInfo.class)) {
          reason = detail.unpack(ErrorInfo.class).getReason();
        } else if (detail.is(BadRequest.class)) {
          for (BadRequest.FieldViolation each : detail.unpack(BadRequest.class).getFieldViolationsList()) {
            lines.append(String.format("field: %s %s%n", each.getField(), each.getDescription()));
          }
        } else if (detail.is(QuotaFailure.class)) {
          lines.append(String.format("quota: %s%n", detail.unpack(QuotaFailure.class).getViolations(0).getDescription()));
        } else if (detail.is(RetryInfo.class)) {
          com.google.protobuf.Duration delay = detail.unpack(RetryInfo.class).getRetryDelay();
          lines.append(String.format("retry after: %d ms%n", delay.getSeconds() * 1000 + delay.getNanos() / 1_000_000));
        }
      }
    } catch (InvalidProtocolBufferException broken) {
      lines.append("its details cannot be read: ").append(broken.getMessage()).append('\n');
    }
    out.printf("%s: %s %s: %s%n%s", what, error.getStatus().getCode(), reason, status.getMessage(), lines);
  }
}
