package walkthrough

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// block is a fenced part of a page: its language, and the text between the fences.
type block struct {
	language, text string
	above          string // the last line before it
	start, end     int    // where the text is in the page
}

// page is a page of docs with its blocks in order.
type page struct {
	file, text string
	blocks     []block
	changes    []change
}

// change is what is to stand in a block, with -update.
type change struct {
	block block
	text  string
}

var fence = regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$")

func readPage(t *testing.T, name string) *page {
	t.Helper()
	p := &page{file: filepath.Join(docs, name)}
	b, err := os.ReadFile(p.file)
	if err != nil {
		t.Fatal(err)
	}
	p.text = string(b)
	for _, m := range fence.FindAllStringSubmatchIndex(p.text, -1) {
		above := strings.TrimSpace(p.text[:m[0]])
		p.blocks = append(p.blocks, block{p.text[m[2]:m[3]], p.text[m[4]:m[5]], above[strings.LastIndexByte(above, '\n')+1:], m[4], m[5]})
	}
	if *update {
		t.Cleanup(func() { p.write(t) })
	}
	return p
}

// write puts the changes into the page, from the last block to the first.
func (p *page) write(t *testing.T) {
	text := p.text
	for i := len(p.changes) - 1; i >= 0; i-- {
		c := p.changes[i]
		text = text[:c.block.start] + strings.TrimSpace(c.text) + "\n" + text[c.block.end:]
	}
	if err := os.WriteFile(p.file, []byte(text), 0o644); err != nil {
		t.Error(err)
	}
}

// step is a block `sh`, and what the page says that its commands print: the block `text` that follows, or nothing.
type step struct {
	commands string
	output   *block
}

func (p *page) steps(t *testing.T) []step {
	t.Helper()
	var steps []step
	for i, b := range p.blocks {
		if b.language != "sh" {
			continue
		}
		s := step{commands: b.text}
		if i+1 < len(p.blocks) && p.blocks[i+1].language == "text" {
			s.output = &p.blocks[i+1]
		}
		steps = append(steps, s)
	}
	if len(steps) == 0 {
		t.Fatalf("%s has no commands", p.file)
	}
	return steps
}

// normal are the rules by which two outputs count as the same. Beside them, an address that the test chose reads as the page's.
var normal = []struct {
	what *regexp.Regexp
	as   string
}{
	{regexp.MustCompile(`\r\n`), "\n"}, // HTTP's ends of lines
	{regexp.MustCompile(`(?m)^Date: .*$`), "Date: …"},
	{regexp.MustCompile(`urn:uuid:[0-9a-f-]{36}`), "urn:uuid:…"},
	{regexp.MustCompile(`\bsidepass-[0-9a-f]{12}\b`), "sidepass-…"},                   // in Via: a name that is drawn at each start
	{regexp.MustCompile(`"(time|duration|remote)": ?("[^"]*"|[0-9.e+-]+)`), `"$1":…`}, // in a line of the log
	{regexp.MustCompile(`"expires_in": ?[0-9]+`), `"expires_in":…`},
	{regexp.MustCompile(`\bobtained in [0-9.]+[mµ]?s\b`), "obtained in …"},
	{regexp.MustCompile(`(?m)^(Cloning into|Updating files:) .*\n(done\.\n)?`), ""}, // git's, which the page leaves out
}

func normalised(s string) string {
	for _, rule := range normal {
		s = rule.what.ReplaceAllString(s, rule.as)
	}
	return strings.TrimSpace(s)
}

// printed holds what a step's commands printed against the page, or with -update has it written there.
func (p *page) printed(t *testing.T, s step, text string) {
	t.Helper()
	said := ""
	if s.output != nil {
		said = s.output.text
	}
	got, want := normalised(text), normalised(said)
	switch {
	case strings.Contains(text, "eyJ"):
		t.Fatalf("%s: these commands print a token:\n\n%s", p.file, s.commands)
	case got == want:
	case *update && s.output != nil:
		p.changes = append(p.changes, change{*s.output, strings.ReplaceAll(text, "\r\n", "\n")})
	default:
		t.Fatalf("%s: these commands\n\n%s\nprint\n\n%s\n\nand the page says\n\n%s\n\nIf the page is wrong: go test ./test/walkthrough -update", p.file, s.commands, got, want)
	}
}
