package grpc

import (
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/proto/fleet"
)

// Said is what a host has said of itself over its connection: nothing of it is proved but the
// name that it is kept under.
type Said struct {
	Boot, Program, Kernel string
	Rules                 []byte // SHA-256 of its loaded rules; none: not known
	At                    time.Time
}

// Said returns what the host of a name said last, since this collector has started.
func (s *Server) Said(name string) (Said, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	said, ok := s.said[name]
	return said, ok
}

// rulesLen is the length of a SHA-256.
const rulesLen = 32

// hears keeps what an Open says. Names are those of certificates, so strangers add none.
func (s *Server) hears(name string, o *fleet.Open) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said[name] = Said{Boot: strings.Clone(o.GetBootId()), Program: strings.Clone(o.GetProgram()), Kernel: strings.Clone(o.GetKernel()), Rules: o.GetRules(), At: s.cfg.Now()}
}

// hearsRules keeps what a Beat says.
func (s *Server) hearsRules(name string, rules []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if said, ok := s.said[name]; ok {
		said.Rules, said.At = rules, s.cfg.Now()
		s.said[name] = said
	}
}
