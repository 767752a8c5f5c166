package remote

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/proto/remote"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// writes keeps each write.
type writes struct{ list [][]byte }

func (w *writes) Write(b []byte) (int, error) {
	w.list = append(w.list, bytes.Clone(b))
	return len(b), nil
}

// inPieces reads a text in random pieces.
type inPieces struct {
	r    *rand.Rand
	text []byte
}

func (p *inPieces) Read(b []byte) (int, error) {
	if len(p.text) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), 1+p.r.IntN(20000))], p.text)
	p.text = p.text[n:]
	return n, nil
}

// Whatever pieces come, each write is whole messages, as many as a stock server reads at
// once, and together they are what came.
func TestMessagesStayWhole(t *testing.T) {
	t.Parallel()
	seed := need.Seed(t)
	for round := range need.Rounds(200, 40) {
		r := rand.New(rand.NewPCG(seed, uint64(round)))
		var all []byte
		for i := range 1 + r.IntN(300) {
			size := r.IntN(300)
			switch r.IntN(50) {
			case 0:
				size = remote.MaxLength - r.IntN(5)
			case 1:
				size = 8950 + r.IntN(40)
			}
			if round%3 == 0 {
				all = append(append(all, strings.Repeat("l", min(size, 8000))...), '\n')
				continue
			}
			all = remote.Append(all, remote.Message, uint32(i), make([]byte, size))
		}
		if round%5 == 1 {
			all = all[:len(all)-1] // ends within a message
		}
		var w writes
		if err := copyMessages(&w, &inPieces{r, all}); err != nil {
			t.Fatal(err)
		}
		if got := bytes.Join(w.list, nil); !bytes.Equal(got, all) {
			t.Fatalf("round %d: %d bytes came of %d", round, len(got), len(all))
		}
		for i, one := range w.list {
			var dec remote.Decoder
			messages := 0
			for rest := one; len(rest) > 0; messages++ {
				_, n, err := dec.Decode(rest)
				if n == 0 || err != nil {
					if i < len(w.list)-1 {
						t.Fatalf("round %d: write %d ends within a message", round, i)
					}
					break
				}
				rest = rest[n:]
			}
			if len(one) > stockRead && messages > 1 {
				t.Fatalf("round %d: %d messages in a write of %d bytes", round, messages, len(one))
			}
		}
	}
}

// A deadline leaves the connection as usable as before, what went wrong beneath is told by
// the next read, and Close joins, also beside a peer that takes nothing.
func TestSecuredWaits(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	c, err := Secure(near, "hub", func(err error) error { return errors.New("explained: " + err.Error()) })
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v", err)
	}
	_ = c.SetReadDeadline(time.Time{})
	message := remote.Append(nil, remote.Message, 1, []byte("x"))
	if _, err := c.Write(message); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(message))
	if _, err := io.ReadFull(far, got); err != nil || !bytes.Equal(got, message) {
		t.Errorf("%q, %v", got, err)
	}
	_ = c.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)) // far takes nothing now
	var sent int
	for err = nil; err == nil; {
		var n int
		n, err = c.Write(bytes.Repeat(message, 1000))
		sent += n
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v", err)
	}
	_ = c.SetWriteDeadline(time.Time{})
	go func() { _, _ = io.CopyN(io.Discard, far, int64(sent)); _ = far.Close() }()
	if _, err := c.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "explained: ") && !errors.Is(err, io.EOF) {
		t.Errorf("%v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}

	near, far = net.Pipe()
	defer far.Close()
	if c, err = Secure(near, "hub", func(err error) error { return err }); err != nil {
		t.Fatal(err)
	}
	_, _ = c.Write(message)
	if err := c.Close(); err != nil { // within lastWords
		t.Error(err)
	}
}

// A server that closes without a single reply may be another service's; one that has answered
// is not.
func TestClosedWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	for _, answered := range []bool{false, true} {
		near, far := net.Pipe()
		go func() {
			if answered {
				_, _ = far.Write(remote.Append(nil, remote.Ack, 1, nil))
			}
			_ = far.Close()
		}()
		c := newConn(near, Managed)
		var err error
		for err == nil {
			_, err = c.Receive(nil)
		}
		if strings.Contains(err.Error(), "another protocol") == answered {
			t.Errorf("%v: %v", answered, err)
		}
		_ = c.Close(false)
	}
}

// refusing is a connection whose server has said why it takes no more before it closed.
type refusing struct {
	net.Conn
	said chan struct{}
}

func (r *refusing) Write([]byte) (int, error) { return 0, syscall.EPIPE }

func (r *refusing) Read([]byte) (int, error) {
	<-r.said
	return 0, errors.New("certificate revoked")
}

func (r *refusing) SetReadDeadline(time.Time) error {
	select {
	case <-r.said:
	default:
		close(r.said) // what lay there to be read comes after the write has failed
	}
	return nil
}

// Why a server refuses its client is told, not that the pipe broke over it.
func TestRefusedHearsWhy(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	defer far.Close()
	c, err := Secure(&refusing{near, make(chan struct{})}, "hub", func(err error) error { return err })
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(remote.Append(nil, remote.Message, 1, []byte("x"))); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil || err.Error() != "certificate revoked" {
		t.Error(err)
	}
	if _, err := c.Write(make([]byte, 1<<20)); err == nil || err.Error() != "certificate revoked" {
		t.Errorf("who writes on hears %v", err)
	}
}
