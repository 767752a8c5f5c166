package seglog

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/auditfleet/auditfleet/internal/need"
)

func TestMain(m *testing.M) {
	need.Parallel(4) // they wait for the disk
	goleak.VerifyTestMain(m)
}
