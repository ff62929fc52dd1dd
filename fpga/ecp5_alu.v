// Adders as ECP5 carry chains that start from nothing, so that place and route adds no cell to feed a carry in.
// A techmap file, to be used with Yosys' own: names are tried in order.
//
// The first half of a chain makes the carry into the first sum and ignores its own carry input.  If operands
// are added without inversion, and the number of halves would be odd, it makes the carry out of bit 0 instead,
// whose sum is then a table.  Table: with D = 1, INIT[15:8] is the sum of A, B and C, and INIT[3:0] the carry
// where that sum is 0.
(* techmap_celltype = "$alu" *)
module _70_ecp5_alu (A, B, CI, BI, X, Y, CO);
  parameter A_SIGNED = 0;
  parameter B_SIGNED = 0;
  parameter A_WIDTH = 1;
  parameter B_WIDTH = 1;
  parameter Y_WIDTH = 1;
  parameter _TECHMAP_CONSTMSK_CI_ = 0;
  parameter _TECHMAP_CONSTVAL_CI_ = 0;
  parameter _TECHMAP_CONSTMSK_BI_ = 0;
  parameter _TECHMAP_CONSTVAL_BI_ = 0;
  (* force_downto *)
  input [A_WIDTH-1:0] A;
  (* force_downto *)
  input [B_WIDTH-1:0] B;
  input CI, BI;
  (* force_downto *)
  output [Y_WIDTH-1:0] X, Y, CO;

  wire _TECHMAP_FAIL_ = Y_WIDTH <= 4;

  localparam ADDS = _TECHMAP_CONSTMSK_CI_ && _TECHMAP_CONSTMSK_BI_ && !_TECHMAP_CONSTVAL_BI_;
  localparam LEAD = ADDS && Y_WIDTH % 2 == 0 ? 0 : 1;
  localparam HALVES = (Y_WIDTH + LEAD + 1) / 2 * 2;
  localparam SUM = 16'h96aa;
  localparam FIRST = LEAD ? 16'h000a : _TECHMAP_CONSTVAL_CI_ ? 16'h000e : 16'h0008;

  (* force_downto *)
  wire [Y_WIDTH-1:0] left, right;
  \$pos #(.A_SIGNED(A_SIGNED), .A_WIDTH(A_WIDTH), .Y_WIDTH(Y_WIDTH)) widen_a (.A(A), .Y(left));
  \$pos #(.A_SIGNED(B_SIGNED), .A_WIDTH(B_WIDTH), .Y_WIDTH(Y_WIDTH)) widen_b (.A(B), .Y(right));
  wire [Y_WIDTH-1:0] inverted = BI ? ~right : right;

  wire [HALVES-1:0] a = LEAD ? {left, CI} : left;
  wire [HALVES-1:0] b = LEAD ? {right, 1'b0} : right;
  wire [HALVES-1:0] sum;
  wire [HALVES:0] chain;
  assign chain[0] = 1'bx;

  genvar i;
  generate
    for (i = 0; i < HALVES; i = i + 2) begin : pair
      CCU2C #(
          .INIT0(i == 0 ? FIRST : SUM),
          .INIT1(SUM),
          .INJECT1_0("NO"),
          .INJECT1_1("NO")
      ) cell_i (
          .CIN(chain[i]),
          .A0(a[i]), .B0(b[i]), .C0(i == 0 ? 1'b1 : BI), .D0(1'b1),
          .A1(a[i+1]), .B1(b[i+1]), .C1(BI), .D1(1'b1),
          .S0(sum[i]), .S1(sum[i+1]),
          .COUT(chain[i+2])
      );
    end
    for (i = 0; i < Y_WIDTH; i = i + 1) begin : digit
      if (i == 0 && !LEAD) assign Y[i] = left[i] ^ right[i] ^ CI;
      else assign Y[i] = sum[i+LEAD];
      if ((i + LEAD) % 2) assign CO[i] = chain[i+LEAD+1];
      else if (i == 0) assign CO[i] = (left[i] & inverted[i]) | (CI & (left[i] | inverted[i]));
      else assign CO[i] = (left[i] & inverted[i]) | (CO[i-1] & (left[i] | inverted[i]));
    end
  endgenerate
  assign X = left ^ inverted;
endmodule
