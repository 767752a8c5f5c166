package importing

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/auditfleet/auditfleet/pkg/oldlogs"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// fake is a collector whose imports end as they are told.
type fake struct {
	fleet.UnimplementedQueryServer
	ends []func(stream grpc.BidiStreamingServer[fleet.ImportRequest, fleet.ImportResponse]) error
}

func (f *fake) Import(stream grpc.BidiStreamingServer[fleet.ImportRequest, fleet.ImportResponse]) error {
	if _, err := stream.Recv(); err != nil {
		return err
	}
	if err := stream.Send(&fleet.ImportResponse{Begun: true, Host: []byte("web1")}); err != nil {
		return err
	}
	end := f.ends[0]
	f.ends = f.ends[1:]
	return end(stream)
}

func (f *fake) dial(t *testing.T) *Client {
	l := bufconn.Listen(1 << 20)
	s := grpc.NewServer()
	fleet.RegisterQueryServer(s, f)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	conn, err := grpc.NewClient("passthrough:///fake", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &Client{Query: fleet.NewQueryClient(conn), Failed: func(err error) error { return err }}
}

// drained reads to the end of what is sent, says the sum, and returns an error.
func drained(sum *fleet.ImportSum, err error) func(grpc.BidiStreamingServer[fleet.ImportRequest, fleet.ImportResponse]) error {
	return func(stream grpc.BidiStreamingServer[fleet.ImportRequest, fleet.ImportResponse]) error {
		for {
			req, rerr := stream.Recv()
			if rerr != nil {
				return rerr
			}
			if req.GetEnd() != nil {
				break
			}
		}
		if serr := stream.Send(&fleet.ImportResponse{Sum: sum}); serr != nil {
			return serr
		}
		return err
	}
}

// target is a Client that BeginImport begins for.
type target struct{ *Client }

func (x target) BeginImport(ctx context.Context, name string, dry bool) (Sink, string, int64, error) {
	return x.Started(x.Begin(ctx, name, dry, nil))
}

// TestCommand: what an import that fails has stored is said, as far as the collector says it, and one that has to
// make way for others goes on by itself, and adds up.
func TestCommand(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.log")
	if err := os.WriteFile(path, []byte(strings.Repeat("type=USER_END msg=audit(1700000000.001:7): pid=1\n", 3)), 0o600); err != nil {
		t.Fatal(err)
	}
	full := status.Error(codes.FailedPrecondition, "the disk is full")
	turn := status.Error(codes.Aborted, ErrTurn.Error()+": what was read is stored")
	sum := func(stored, skipped int64) *fleet.ImportSum {
		return &fleet.ImportSum{Files: 1, Records: stored + skipped, Stored: stored, Skipped: skipped}
	}
	gone := func(grpc.BidiStreamingServer[fleet.ImportRequest, fleet.ImportResponse]) error {
		return status.Error(codes.Unavailable, "it is gone")
	}
	early := func(stream grpc.BidiStreamingServer[fleet.ImportRequest, fleet.ImportResponse]) error {
		if err := stream.Send(&fleet.ImportResponse{Sum: sum(1, 0)}); err != nil {
			return err
		}
		return turn
	}
	for name, c := range map[string]struct {
		ends []func(grpc.BidiStreamingServer[fleet.ImportRequest, fleet.ImportResponse]) error
		out  string // its last line
		said string // in its messages
		code int
	}{
		"done":     {nil, `{"files":1,"records":3,"stored":3,"skipped":0}`, "", ExitDone},
		"full":     {[]func(grpc.BidiStreamingServer[fleet.ImportRequest, fleet.ImportResponse]) error{drained(sum(2, 0), full)}, `{"files":1,"records":2,"stored":2,"skipped":0,"error":"the disk is full"}`, "the disk is full", ExitNotDone},
		"gone":     {[]func(grpc.BidiStreamingServer[fleet.ImportRequest, fleet.ImportResponse]) error{gone}, `{"error":`, ErrUnknown.Error(), ExitNotDone},
		"its turn": {[]func(grpc.BidiStreamingServer[fleet.ImportRequest, fleet.ImportResponse]) error{early, drained(sum(2, 1), nil)}, `{"files":1,"records":3,"stored":3,"skipped":0}`, ErrTurn.Error(), ExitDone},
	} {
		t.Run(name, func(t *testing.T) {
			if c.ends == nil {
				c.ends = append(c.ends, drained(sum(3, 0), nil))
			}
			var out, errs strings.Builder
			cmd := &Command{Format: "json", OneHost: true, Wait: true}
			cmd.Start(&out, &errs)
			code := cmd.Read(t.Context(), oldlogs.Config{Paths: []string{path}}, "mine", target{(&fake{ends: c.ends}).dial(t)})
			lines := strings.Split(strings.TrimSpace(out.String()), "\n")
			if last := lines[len(lines)-1]; code != c.code || !strings.HasPrefix(last, c.out) || !strings.Contains(errs.String(), c.said) {
				t.Errorf("exit %d, %s, %q", code, last, errs.String())
			}
		})
	}
	if err := (&Command{}).Check(nil); err == nil {
		t.Error("nothing to do is said to be right")
	}
}

// TestTornSaid: what becomes of a last line that has no end is said, and is an exit code where something is lost.
func TestTornSaid(t *testing.T) {
	whole := "type=USER_END msg=audit(1700000000.001:7): pid=1\n"
	for torn, c := range map[string]struct {
		old        bool
		said, json string
		code       int
	}{
		"type=USER_END msg=audit(17":                   {false, "the same command reads it when it is whole", `"torn":"waits"`, ExitDone},
		"type=USER_END msg=audit(1700000000":           {true, "it is left out", `"torn":"lost"`, ExitDamage},
		"type=USER_END msg=audit(1700000000.001:8): p": {true, "as far as it goes", `"torn":"taken"`, ExitDone},
	} {
		path := filepath.Join(t.TempDir(), "audit.log")
		if err := os.WriteFile(path, []byte(whole+torn), 0o600); err != nil {
			t.Fatal(err)
		}
		if old := time.Now().Add(-time.Hour); c.old {
			if err := os.Chtimes(path, old, old); err != nil {
				t.Fatal(err)
			}
		}
		var out, errs strings.Builder
		cmd := &Command{Format: "json", OneHost: true}
		cmd.Start(&out, &errs)
		ends := []func(grpc.BidiStreamingServer[fleet.ImportRequest, fleet.ImportResponse]) error{drained(&fleet.ImportSum{Files: 1}, nil)}
		code := cmd.Read(t.Context(), oldlogs.Config{Paths: []string{path}}, "mine", target{(&fake{ends: ends}).dial(t)})
		if code != c.code || !strings.Contains(errs.String(), "has no end") || !strings.Contains(errs.String(), c.said) || !strings.Contains(out.String(), c.json) {
			t.Errorf("%s: exit %d, %s, %s", torn, code, errs.String(), out.String())
		}
	}
}

// UndoImport takes some of an import back.
func (f *fake) UndoImport(_ context.Context, req *fleet.UndoImportRequest) (*fleet.UndoImportResponse, error) {
	return &fleet.UndoImportResponse{Records: 7, Stays: int64(len(req.GetReason()))}, nil
}

// TestUndoneInPart: what could not be taken back is said, and is an exit code.
func TestUndoneInPart(t *testing.T) {
	for reason, want := range map[string]struct {
		out, said string
		code      int
	}{
		"":    {`{"records":7,"undone":"old"}`, "", ExitDone},
		"why": {`{"records":7,"stays":3,"undone":"old"}`, "3 events of import old stay", ExitDamage},
	} {
		var out, errs strings.Builder
		cmd := &Command{Format: "json", Undo: "old", Reason: reason}
		cmd.Start(&out, &errs)
		code := cmd.Asked(t.Context(), target{(&fake{}).dial(t)})
		if code != want.code || strings.TrimSpace(out.String()) != want.out || !strings.Contains(errs.String(), want.said) {
			t.Errorf("exit %d, %s, %s", code, out.String(), errs.String())
		}
	}
}
