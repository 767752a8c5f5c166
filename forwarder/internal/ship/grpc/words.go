package grpc

import (
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/auditfleet/auditfleet/forwarder/internal/ship"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// refusal is a Refused as ship has it. A gap is no complaint: it follows another refusal.
func refusal(m *fleet.Refused) ship.Reply {
	r := ship.Reply{Outcome: ship.Refused, From: m.GetFirst(), To: m.GetNext()}
	condition := ship.GenericError
	switch m.GetReason() {
	case fleet.Refusal_REFUSAL_GAP:
		return r
	case fleet.Refusal_REFUSAL_DISK_FULL:
		condition = ship.DiskFull
	case fleet.Refusal_REFUSAL_DISK_ERROR, fleet.Refusal_REFUSAL_SUSPENDED:
		condition = ship.DiskError
	}
	r.Complaint = &ship.Complaint{Condition: condition, Name: m.GetReason().String()[len("REFUSAL_"):], Text: m.GetText()}
	return r
}

// ending says in words why a call has ended.
func ending(err error) error {
	switch st, _ := status.FromError(err); {
	case errors.Is(err, io.EOF):
		return errors.New("the collector has ended the call")
	case st.Code() == codes.Unavailable:
		return errors.New(st.Message())
	default:
		return fmt.Errorf("%s: %s", st.Code(), st.Message())
	}
}
