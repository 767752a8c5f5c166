package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// queryVersion is the version of the protocol, as fleet.proto has it at Query.
const queryVersion = 8

// longAnswer is the time from which on an answer is not taken again and again.
const longAnswer = 3 * time.Second

// socket asks a collector on its socket for what its commands print, without the start of a process for each question.
type socket struct {
	conn *grpc.ClientConn
}

func openSocket(store string) (*socket, error) {
	path, err := filepath.Abs(filepath.Join(store, "collector.sock"))
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	return &socket{conn}, err
}

func (s *socket) close() { _ = s.conn.Close() }

// asked is how one question was answered.
type asked struct {
	records int
	wall    time.Duration // median
	cpu     time.Duration // of the server, on average
}

// take asks again and again, and takes the median.
func (s *socket) take(ctx context.Context, server *harness.Proc, command string, args []string) (a asked, _ error) {
	begin := time.Now()
	if _, err := s.ask(ctx, command, args); err != nil {
		return a, err
	}
	runs := 100
	if time.Since(begin) > longAnswer {
		runs = 1
	}
	before, err := server.Usage()
	if err != nil {
		return a, err
	}
	var walls []time.Duration
	for spent := time.Duration(0); len(walls) < runs && (len(walls) < 3 || spent < time.Second); {
		begin := time.Now()
		if a.records, err = s.ask(ctx, command, args); err != nil {
			return a, err
		}
		took := time.Since(begin)
		walls, spent = append(walls, took), spent+took
	}
	after, err := server.Usage()
	if err != nil {
		return a, err
	}
	a.wall, a.cpu = median(walls), (after.CPU-before.CPU)/time.Duration(len(walls))
	return a, nil
}

// ask asks once and returns how many lines came.
func (s *socket) ask(ctx context.Context, command string, args []string) (lines int, _ error) {
	client := fleet.NewQueryClient(s.conn)
	words := make([][]byte, len(args))
	for i, a := range args {
		words[i] = []byte(a)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	var next func() ([]byte, *fleet.Exit, error)
	if command == "search" {
		stream, err := client.Text(ctx, &fleet.TextRequest{Version: queryVersion, Words: words})
		if err != nil {
			return 0, err
		}
		next = func() ([]byte, *fleet.Exit, error) { r, err := stream.Recv(); return r.GetText(), r.GetExit(), err }
	} else {
		stream, err := client.Report(ctx, &fleet.ReportRequest{Version: queryVersion, Words: words})
		if err != nil {
			return 0, err
		}
		next = func() ([]byte, *fleet.Exit, error) { r, err := stream.Recv(); return r.GetText(), r.GetExit(), err }
	}
	for {
		text, exit, err := next()
		if errors.Is(err, io.EOF) {
			return lines, nil
		}
		if err != nil {
			return 0, err
		}
		lines += bytes.Count(text, []byte("\n"))
		if exit.GetCode() > 1 {
			return 0, fmt.Errorf("exit %d: %s", exit.GetCode(), exit.GetMessages())
		}
	}
}
