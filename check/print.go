package check

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// JSON writes the report as one JSON object.
func (r Report) JSON(w io.Writer) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(r); err != nil {
		return err
	}
	_, err := w.Write(b.Bytes())
	return err
}

// sign is what a line begins with, and its colour on a terminal.
func (s Status) sign() (sign, colour string) {
	switch s {
	case OK:
		return "✓", "32"
	case Warning:
		return "!", "33"
	case Skipped:
		return "-", "2"
	}
	return "✗", "31"
}

// Text writes the report for people, with colours if asked for.
func (r Report) Text(w io.Writer, colours bool) error {
	paint := func(s Status) string {
		sign, colour := s.sign()
		if !colours {
			return sign
		}
		return "\x1b[" + colour + "m" + sign + "\x1b[0m"
	}
	var b strings.Builder
	for _, g := range r.Groups {
		b.WriteString(strings.TrimSpace(g.Kind+" "+g.Name) + "\n")
		for _, l := range g.Lines {
			fmt.Fprintf(&b, "  %s %s\n", paint(l.Status), l.Says)
			if l.Do != "" {
				fmt.Fprintf(&b, "      %s\n", l.Do)
			}
		}
		b.WriteByte('\n')
	}
	worst := OK
	switch {
	case r.Counts.Failed > 0:
		worst = Failed
	case r.Counts.Warning > 0:
		worst = Warning
	}
	fmt.Fprintf(&b, "%s %s, %s, %d fine\n", paint(worst), many(r.Counts.Failed, "failure"), many(r.Counts.Warning, "warning"), r.Counts.OK)
	_, err := io.WriteString(w, b.String())
	return err
}

func many(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
