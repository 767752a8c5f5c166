package grpc

import "github.com/auditfleet/auditfleet/proto/fleet"

// signed takes what the collector signs, or proves of it, and reports whether it was that.
func (c *conn) signed(m *fleet.StreamResponse) bool {
	var from, to uint64
	switch m := m.GetMessage().(type) {
	case *fleet.StreamResponse_Checkpoint:
		if c.witness != nil {
			from, to = c.witness.Checkpoint(m.Checkpoint.GetText(), m.Checkpoint.GetKey())
		}
	case *fleet.StreamResponse_Consistency:
		if c.witness != nil {
			from, to = c.witness.Proof(m.Consistency.GetFrom(), m.Consistency.GetTo(), m.Consistency.GetHashes())
		}
	default:
		return false
	}
	if to == 0 {
		return true
	}
	ask := &fleet.StreamRequest{Message: &fleet.StreamRequest_Prove{Prove: &fleet.Prove{From: from, To: to}}}
	for {
		select {
		case c.asks <- ask:
			return true
		default:
		}
		select {
		case <-c.asks: // an older one
		default:
		}
	}
}
