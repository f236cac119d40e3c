// Streams one answer, cancels one in mid-stream, and reads a typed refusal.
//
//	FAIRLEAD_ADDRESS=127.0.0.1:7600 FAIRLEAD_KEY=... ./example
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"fairlead/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

const (
	maxMessageBytes = 4 << 20 // fairlead takes and sends no larger message
	longAnswer      = 2000
)

func connect(address string) (*grpc.ClientConn, error) {
	security, err := fromEnvironment()
	if err != nil {
		return nil, err
	}
	return grpc.Dial(address, security,
		grpc.WithDefaultCallOptions(grpc.ForceCodec(codec{}),
			grpc.MaxCallRecvMsgSize(maxMessageBytes), grpc.MaxCallSendMsgSize(maxMessageBytes)),
		// The server refuses pings that come more often than each 5 s.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 10 * time.Second}))
}

// fromEnvironment is TLS where FAIRLEAD_CA names the CA of the scheduler's certificate (a PEM file), with a certificate of
// one's own where FAIRLEAD_CERT and FAIRLEAD_CERT_KEY name one; else plain text, which is for the same machine alone.
func fromEnvironment() (grpc.DialOption, error) {
	file := os.Getenv("FAIRLEAD_CA")
	if file == "" {
		return grpc.WithInsecure(), nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	if !config.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", file)
	}
	if own := os.Getenv("FAIRLEAD_CERT"); own != "" {
		certificate, err := tls.LoadX509KeyPair(own, os.Getenv("FAIRLEAD_CERT_KEY"))
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{certificate}
	}
	return grpc.WithTransportCredentials(credentials.NewTLS(config)), nil
}

// ask starts one request; its deadline is the call's. Who is asking is told by the key alone.
func ask(client fairlead.InferenceServiceClient, id, text string, sampling *fairlead.SamplingParams) (
	fairlead.InferenceService_GenerateClient, context.CancelFunc, error) {
	ctx, cancel := context.WithTimeout(withKey(), time.Minute)
	call, err := client.Generate(ctx, &fairlead.GenerateRequest{
		RequestId:    proto.String(id), // the same id with the same content attaches to the first: a retry is safe
		Input:        &fairlead.GenerateRequest_Text{Text: text},
		ServiceClass: fairlead.ServiceClass_SERVICE_CLASS_LATENCY_SENSITIVE,
		Sampling:     sampling,
	})
	return call, cancel, err
}

func withKey() context.Context {
	return metadata.AppendToOutgoingContext(context.Background(), "authorization", "Bearer "+os.Getenv("FAIRLEAD_KEY"))
}

// read gives every event to take until the stream ends.
func read(call fairlead.InferenceService_GenerateClient, take func(*fairlead.GenerateResponse)) error {
	for {
		response, err := call.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		take(response)
	}
}

func stream(client fairlead.InferenceServiceClient) error {
	fmt.Println("== stream")
	call, done, err := ask(client, newID("stream"), "Count from 1 to 20.", &fairlead.SamplingParams{MaxTokens: proto.Uint32(40)})
	defer done()
	if err != nil {
		return err
	}
	return read(call, func(response *fairlead.GenerateResponse) {
		switch event := response.Event.(type) {
		case *fairlead.GenerateResponse_Accepted:
			fmt.Printf("accepted: tenant %s, model %s\n", event.Accepted.Tenant, event.Accepted.Model)
		case *fairlead.GenerateResponse_Delta:
			fmt.Print(event.Delta.Text)
		case *fairlead.GenerateResponse_Finished:
			fmt.Printf("\nfinished: %s, %d tokens\n", event.Finished.Outcome, event.Finished.Usage.OutputTokens)
		}
	})
}

func cancel(client fairlead.InferenceServiceClient) error {
	fmt.Println("== cancel")
	id := newID("cancel")
	call, done, err := ask(client, id, "Tell me a long story.", &fairlead.SamplingParams{
		MaxTokens: proto.Uint32(longAnswer), MinTokens: proto.Uint32(longAnswer), IgnoreEos: proto.Bool(true)})
	defer done() // this alone would end the call too, but say nothing more; Cancel lets the last event come
	if err != nil {
		return err
	}
	tokens, failed := uint32(0), error(nil)
	err = read(call, func(response *fairlead.GenerateResponse) {
		switch event := response.Event.(type) {
		case *fairlead.GenerateResponse_Delta:
			if tokens == 0 {
				_, failed = client.Cancel(withKey(), &fairlead.CancelRequest{RequestId: id})
			}
			tokens += event.Delta.TokenCount
		case *fairlead.GenerateResponse_Finished:
			share := "all"
			if tokens < longAnswer {
				share = "some"
			}
			fmt.Printf("finished: %s after %s of %d tokens\n", event.Finished.Outcome, share, longAnswer)
		}
	})
	if failed != nil {
		return failed
	}
	return err
}

func refused(client fairlead.InferenceServiceClient) error {
	fmt.Println("== refused")
	call, done, err := ask(client, newID("refused"), "Hello.", &fairlead.SamplingParams{Temperature: proto.Float64(-1)})
	defer done()
	if err == nil {
		err = read(call, func(*fairlead.GenerateResponse) {})
	}
	if status.Code(err) != codes.InvalidArgument {
		return fmt.Errorf("a temperature of -1 was not refused as it should be: %w", err)
	}
	tell(os.Stdout, "refused", err)
	return nil
}

// tell prints a failed call with its details: the trailer grpc-status-details-bin, which grpc-go unpacks by itself.
func tell(out io.Writer, what string, err error) {
	told, reason := status.Convert(err), ""
	for _, detail := range told.Details() {
		if info, is := detail.(*errdetails.ErrorInfo); is {
			reason = info.Reason
		}
	}
	fmt.Fprintf(out, "%s: %s %s: %s\n", what, told.Code(), reason, told.Message())
	for _, detail := range told.Details() {
		switch each := detail.(type) {
		case *errdetails.BadRequest:
			for _, violation := range each.FieldViolations {
				fmt.Fprintf(out, "field: %s %s\n", violation.Field, violation.Description)
			}
		case *errdetails.QuotaFailure:
			fmt.Fprintf(out, "quota: %s\n", each.Violations[0].Description)
		case *errdetails.RetryInfo:
			delay := each.RetryDelay
			fmt.Fprintf(out, "retry after: %d ms\n", delay.Seconds*1000+int64(delay.Nanos)/1e6)
		}
	}
}

func newID(name string) string { return fmt.Sprintf("go-%s-%d", name, time.Now().UnixNano()) }

func main() {
	address := os.Getenv("FAIRLEAD_ADDRESS")
	if address == "" {
		address = "127.0.0.1:7600"
	}
	connection, err := connect(address)
	if err == nil {
		defer connection.Close()
		client := fairlead.NewInferenceServiceClient(connection)
		for _, part := range []func(fairlead.InferenceServiceClient) error{stream, cancel, refused} {
			if err == nil {
				err = part(client)
			}
		}
	}
	if err != nil {
		tell(os.Stderr, "error", err)
		os.Exit(1)
	}
}
