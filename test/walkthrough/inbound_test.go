package walkthrough

import "testing"

// The roll-out from audit mode to enforcement is as the page tells it.
func TestInbound(t *testing.T) {
	t.Parallel()
	need(t, "bash", "curl")
	readPage(t, "inbound.md").walk(t, build(t))
}
