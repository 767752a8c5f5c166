package kernel_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel/kerneltest"
)

func TestMain(m *testing.M) {
	kerneltest.Child()
	goleak.VerifyTestMain(m)
}
