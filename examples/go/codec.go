package main

import "google.golang.org/protobuf/proto"

// codec marshals with the protobuf API that the stubs are made for. Debian 12's grpc-go 1.33 is built on the older API,
// which does not know `optional` and oneof of newer stubs. With a current grpc-go this file is not needed.
type codec struct{}

func (codec) Name() string { return "proto" }

func (codec) Marshal(message interface{}) ([]byte, error) {
	return proto.Marshal(message.(proto.Message))
}

func (codec) Unmarshal(data []byte, message interface{}) error {
	return proto.Unmarshal(data, message.(proto.Message))
}
