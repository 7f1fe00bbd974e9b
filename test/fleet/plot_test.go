package fleet

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// The plot's measures, in its own units: a panel a variant, one below the other.
const (
	width, panel, gap      = 720, 120, 44 // of a panel; gap is between two
	left, right, top, foot = 84, 12, 34, 46
	bin                    = 5 * time.Minute
	decades                = 5 // of the logarithmic axis, from 1 on
)

const style = `text{font:12px system-ui,sans-serif;fill:#24292f}.title{font-weight:600}.ground{fill:#fff}.grid{stroke:#d0d7de;stroke-width:1}.bars{fill:#0969da}.outage{fill:#cf222e;opacity:.28}.wave{fill:#9a6700;opacity:.28}` +
	`@media(prefers-color-scheme:dark){text{fill:#e6edf3}.ground{fill:#0d1117}.grid{stroke:#30363d}.bars{fill:#58a6ff}.outage{fill:#ff7b72;opacity:.38}.wave{fill:#d29922;opacity:.38}}`

// plot draws the largest second of each bin. It brings its own ground, so that it can be read on a light page and on a dark one.
func plot(results []result, mark string) string {
	var b strings.Builder
	length := results[0].length
	tall := top + len(results)*(panel+gap) - gap + foot
	x := func(at time.Duration) float64 { return left + width*float64(at)/float64(length) }
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="Token calls in the largest second of each five minutes over a day, for each variant">`+"\n",
		left+width+right, tall)
	fmt.Fprintf(&b, "<!-- %s -->\n<style>%s</style>\n<rect class=\"ground\" width=\"100%%\" height=\"100%%\"/>\n", mark, style)
	for i, r := range results {
		base := float64(top + i*(panel+gap) + panel)
		y := func(n int) float64 { return base - panel*math.Log10(float64(max(1, n)))/decades }
		fmt.Fprintf(&b, `<text class="title" x="%d" y="%g">%s</text>`+"\n", left, base-panel-8, r.variant)
		for d := range decades + 1 {
			at := y(int(math.Pow10(d)))
			fmt.Fprintf(&b, `<path class="grid" d="M%d %gh%d"/><text x="%d" y="%g" text-anchor="end">%s</text>`+"\n", left, at, width, left-6, at+4, number(int(math.Pow10(d))))
		}
		for w := range r.waves {
			shade(&b, "wave", x(r.wave(w).from), x(r.wave(w).to), base)
		}
		out := r.outageOf(r.variant)
		shade(&b, "outage", x(out.from), x(out.to), base)
		b.WriteString(`<path class="bars" d="`)
		step, wide := int(bin/time.Second), width*float64(bin)/float64(length)
		for s := 0; s+step <= len(r.calls); s += step {
			// A second with one call stands out of the ground a little: the axis begins at 1.
			if most := slices.Max(r.calls[s : s+step]); most > 0 {
				fmt.Fprintf(&b, "M%.1f %gV%.1fh%.1fV%g", x(time.Duration(s)*time.Second), base, y(most)-2, wide, base)
			}
		}
		b.WriteString("z\"/>\n")
	}
	base := top + len(results)*(panel+gap) - gap
	for at := time.Duration(0); at <= length; at += 3 * time.Hour {
		fmt.Fprintf(&b, `<text x="%.0f" y="%d" text-anchor="middle">%.0f</text>`+"\n", x(at), base+17, at.Hours())
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">hours; yellow: a deploy wave, red: the outage</text>`+"\n", left+width/2, base+36)
	fmt.Fprintf(&b, `<text transform="translate(14 %d) rotate(-90)" text-anchor="middle">token calls in the largest second of 5 minutes</text>`+"\n</svg>\n", (top+base)/2)
	return b.String()
}

// shade marks a time, and no less of it than can be seen.
func shade(b *strings.Builder, class string, from, to, base float64) {
	fmt.Fprintf(b, `<rect class="%s" x="%.1f" y="%g" width="%.1f" height="%d"/>`+"\n", class, from, base-panel, max(2, to-from), panel)
}

func minutes(d time.Duration) string { return fmt.Sprintf("%d minutes", d/time.Minute) }
