// Beside the harness: memories of the engine that start filled, and are written to files while it runs.
//
// `CODES, `VALUES, `WEIGHTS and `CHANNELS say where the memories are.  Every entry of the plan is four numbers:
// how many cycles the engine has been busy, the memory, and its first and last word.
`timescale 1ns/1ps
module snapshots #(
    parameter ENTRIES = 1
) (
    input clk,
    input [31:0] busy_cycles
);
    reg [31:0] plan [0:4*ENTRIES-1];
    reg [4095:0] folder, file;
    integer count, next, wave_start, wave_end;
    reg hiding;

    initial begin
        count = 0;
        next = 0;
        if ($value$plusargs("snapshot_folder=%s", folder)) begin
            $sformat(file, "%0s/plan.hex", folder);
            $readmemh(file, plan);
            if (!$value$plusargs("snapshot_count=%d", count)) count = 0;
        end
        if ($value$plusargs("codes=%s", file)) $readmemh(file, `CODES);
        if ($value$plusargs("weights=%s", file)) $readmemh(file, `WEIGHTS);
        if ($value$plusargs("channels=%s", file)) $readmemh(file, `CHANNELS);
`ifdef VALUES
        if ($value$plusargs("values=%s", file)) $readmemh(file, `VALUES);
`endif
        wave_start = -1;
        wave_end = -1;
        if ($value$plusargs("wave_start=%d", wave_start)) hiding = 1;
        else hiding = 0;
        if (!$value$plusargs("wave_end=%d", wave_end)) wave_end = -1;
    end

    always @(posedge clk) begin
        while (next < count && plan[4*next] == busy_cycles) begin
            $sformat(file, "%0s/%0d.hex", folder, next);
            if (plan[4*next+1] == 0) $writememh(file, `CODES, plan[4*next+2], plan[4*next+3]);
`ifdef VALUES
            else $writememh(file, `VALUES, plan[4*next+2], plan[4*next+3]);
`endif
            next = next + 1;
        end
        if (hiding) begin
            hiding = 0;
            $dumpoff;
        end
        if (busy_cycles == wave_start) begin
            wave_start = -1;
            $dumpon;
        end
        if (busy_cycles == wave_end) begin
            wave_end = -1;
            $dumpoff;
        end
    end
endmodule
