package remote

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/auditfleet/auditfleet/proto/remote"
	"github.com/google/go-cmp/cmp"
)

// expected is what a stream must come to, by the codec's own reading of it in one piece.
func expected(stream []byte) (stored, replies []string) {
	var dec remote.Decoder
	if may, err := otherProtocol(stream); may || err != nil {
		return nil, nil
	}
	for {
		f, n, err := dec.Decode(stream)
		if err != nil || n == 0 || !f.ASCII && f.Type.IsReply() {
			return stored, replies
		}
		stream = stream[n:]
		if len(f.Payload) > 0 && (f.ASCII || f.Type != remote.Heartbeat) {
			stored = append(stored, string(f.Payload))
		}
		if !f.ASCII {
			replies = append(replies, fmt.Sprintf("ACK %d", f.Seq))
		}
	}
}

// FuzzSession sends any bytes, cut anywhere, through a real socket: what is
// stored and replied must not depend on the cuts, and nothing may break.
func FuzzSession(f *testing.F) {
	f.Add([]byte("node=a type=USER msg=audit(1.000:1): x\n"), uint64(1))
	f.Add(append(message(1, "one"), message(2, "two")...), uint64(2))
	f.Add(remote.Append(message(1, "one"), remote.Heartbeat, 2, nil), uint64(3))
	f.Add(append(message(1, "one"), 0xfe, 0, 0, 0xff, 1), uint64(4))
	f.Add(append([]byte("line\n\n"), message(9, "")...), uint64(5))
	f.Add(remote.Append(nil, remote.Ack, 1, nil), uint64(6))
	f.Add([]byte{0xfe, 0, 0}, uint64(7))
	f.Add([]byte("PROXY TCP4 192.0.2.7 198.51.100.1 40000 60\r\nline\n"), uint64(8))
	f.Add([]byte("\r\n\r\n"), uint64(9))
	f.Fuzz(func(t *testing.T, stream []byte, seed uint64) {
		fx := setup(t, nil)
		c := fx.dial()
		rnd := rand.New(rand.NewPCG(seed, 2))
		rest := stream
		for len(rest) > 0 {
			k := 1 + rnd.IntN(len(rest))
			if _, err := c.Write(rest[:k]); err != nil {
				break // closed for what it sent
			}
			rest = rest[k:]
		}
		c.CloseWrite()
		stored, replies := expected(stream)
		c.want(append(replies, "EOF")...)
		c.Close()
		<-c.done
		if diff := cmp.Diff(stored, fx.j.stored()); diff != "" {
			t.Errorf("stored (-want +got):\n%s", diff)
		}
	})
}
